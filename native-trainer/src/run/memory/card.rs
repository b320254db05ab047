//! NVIDIA cards by name.

use std::str::FromStr;

/// A card's name, in the spelling of [`Card`], and its memory in MiB as `nvidia-smi` shows it.
const CARDS: [(&str, u64); 24] = [
    ("a10", 23_028),
    ("a100-40gb", 40_960),
    ("a100-80gb", 81_920),
    ("a40", 46_068),
    ("a4000", 16_376),
    ("a5000", 24_564),
    ("a6000", 49_140),
    ("b200", 183_359),
    ("gh200", 97_871),
    ("h100", 81_559),
    ("h200", 143_771),
    ("l4", 23_034),
    ("l40s", 46_068),
    ("rtx3060", 12_288),
    ("rtx3090", 24_576),
    ("rtx4070", 12_282),
    ("rtx4080", 16_376),
    ("rtx4090", 24_564),
    ("rtx5080", 16_303),
    ("rtx5090", 32_607),
    ("t4", 15_360),
    ("v100-16gb", 16_384),
    ("v100-32gb", 32_768),
    ("rtx6000-ada", 49_140),
];

/// The memory of an NVIDIA card that is named: "h100", "RTX 4090", "A100-80GB", "4090".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// Bytes.
    pub memory: u64,
}

impl FromStr for Card {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let plain = |name: &str| name.to_lowercase().replace([' ', '-', '_'], "");
        let given = plain(name);
        let given = given.strip_prefix("nvidia").unwrap_or(&given);
        let given = given.strip_prefix("geforce").unwrap_or(given);
        let known = |card: &str| plain(card) == given || plain(card).strip_prefix("rtx") == Some(given);
        let found = CARDS.iter().find(|(card, _)| known(card));
        found.map(|(_, memory)| Self { memory: memory << 20 }).ok_or_else(|| {
            let names: Vec<&str> = CARDS.iter().map(|(name, _)| *name).collect();
            format!("it is not known; give its memory with --device-memory, or choose {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_found_under_the_names_that_people_use() {
        for (name, memory) in [
            ("H100", 81_559),
            ("rtx4090", 24_564),
            ("GeForce RTX 4090", 24_564),
            ("4090", 24_564),
            ("A100-80GB", 81_920),
        ] {
            assert_eq!(name.parse(), Ok(Card { memory: memory << 20 }), "{name}");
        }
        assert!("a100".parse::<Card>().is_err_and(|error| error.contains("a100-40gb, a100-80gb")));
    }
}
