//! Near-duplicates by MinHash (Broder 1997): texts whose sets of 5-character shingles are alike. Signatures of 128 hashes are
//! cut into bands; texts that agree in a band are compared by the share of equal hashes, which estimates the Jaccard index.

use std::collections::{HashMap, HashSet};

/// Hashes of a signature.
const HASHES: usize = 128;
/// Hashes of a band: two texts whose Jaccard index is 0.9 share one of 16 bands of 8 with a probability of 0.9998.
const BAND: usize = 8;
/// Characters of a shingle.
const SHINGLE: usize = 5;

/// Texts that have been seen.
#[derive(Debug)]
pub struct MinHash {
    least: f64,
    signatures: Vec<[u32; HASHES]>,
    /// For each band and its hashes, the texts that have them.
    bands: HashMap<(usize, [u32; BAND]), Vec<usize>>,
}

impl MinHash {
    /// Texts are near-duplicates from a Jaccard index of `least` on.
    pub fn new(least: f64) -> Self {
        Self { least, signatures: Vec::new(), bands: HashMap::new() }
    }

    /// The number of a text seen before that `text` is nearly equal to; if there is none, `text` gets the next number.
    pub fn insert(&mut self, text: &str) -> Option<usize> {
        let signature = signature(text);
        let bands = || signature.as_chunks::<BAND>().0.iter().copied().enumerate();
        let near = |index: &usize| {
            let equal = self.signatures[*index].iter().zip(&signature).filter(|(a, b)| a == b).count();
            equal as f64 / HASHES as f64 >= self.least
        };
        let found = bands().filter_map(|band| self.bands.get(&band)).flatten().copied().filter(near).min();
        if found.is_none() {
            let index = self.signatures.len();
            bands().for_each(|band| self.bands.entry(band).or_default().push(index));
            self.signatures.push(signature);
        }
        found
    }
}

/// For each of the hash functions, the least hash of a shingle.
fn signature(text: &str) -> [u32; HASHES] {
    let text: Vec<char> = normalized(text).chars().collect();
    let shingles: HashSet<u64> = text.windows(SHINGLE.min(text.len()).max(1)).map(hash).collect();
    let mut signature = [u32::MAX; HASHES];
    for shingle in shingles {
        for (index, least) in signature.iter_mut().enumerate() {
            *least = (*least).min((mix(shingle ^ mix(1 + index as u64)) >> 32) as u32);
        }
    }
    signature
}

/// FNV-1a over the characters.
fn hash(shingle: &[char]) -> u64 {
    shingle
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, c| (hash ^ u64::from(u32::from(*c))).wrapping_mul(0x100_0000_01b3))
}

/// The finaliser of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A text without what a reader would not call a difference: case, punctuation, spaces.
pub fn normalized(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Jaccard index of the shingles.
    fn jaccard(a: &str, b: &str) -> f64 {
        let set = |text: &str| {
            let text: Vec<char> = normalized(text).chars().collect();
            text.windows(SHINGLE).map(<[char]>::to_vec).collect::<HashSet<_>>()
        };
        let (a, b) = (set(a), set(b));
        a.intersection(&b).count() as f64 / a.union(&b).count() as f64
    }

    #[test]
    fn signatures_estimate_the_jaccard_index() {
        let a = "Write a short story about a dog that finds its way home through a snowy forest at night.";
        for b in [
            "Write a short story about a dog that finds its way home through a snowy forest at dawn.",
            "Write a short poem about a cat that finds its way home through a rainy city at night.",
            "Explain how photosynthesis works to a child of ten years.",
        ] {
            let (x, y) = (signature(a), signature(b));
            let estimate = x.iter().zip(&y).filter(|(x, y)| x == y).count() as f64 / HASHES as f64;
            // Three standard deviations of 128 draws.
            assert!((estimate - jaccard(a, b)).abs() < 0.14, "{estimate} {}", jaccard(a, b));
        }
    }

    #[test]
    fn near_duplicates_are_found_and_others_are_not() {
        let mut seen = MinHash::new(0.9);
        let text = "Give three tips for staying healthy, and say for each of them why it works and what it costs.";
        assert_eq!(seen.insert(text), None);
        assert_eq!(seen.insert("Name the seven days of the week."), None);
        assert_eq!(seen.insert(&format!("{}!", text.to_uppercase())), Some(0));
        assert_eq!(seen.insert(&text.replace("costs", "costs you")), Some(0));
        assert_eq!(seen.insert("Name the twelve months of the year."), None);
        assert_eq!(seen.insert(""), None);
        assert_eq!(seen.insert("?!"), Some(3));
    }
}
