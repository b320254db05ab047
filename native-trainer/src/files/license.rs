//! What a model's files say about its licence.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use paddock_engine::weights::gguf::{Parsed, Value, parse};

/// So much of a file is read for its header; no published vocabulary makes one longer.
const HEADER: u64 = 32 << 20;

/// The licence that the model at `path` names: `license:` in the front matter of a folder's README.md, or
/// `general.license` of a GGUF file. `None` where it names none, or cannot be read.
pub fn license(path: &Path) -> Option<String> {
    if path.is_dir() {
        return front_matter(&fs::read_to_string(path.join("README.md")).ok()?);
    }
    let file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let mut bytes = Vec::new();
    file.take(HEADER).read_to_end(&mut bytes).ok()?;
    match parse("model", &bytes, size).ok()? {
        Parsed::Complete(header) => match header.metadata.get("general.license")? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        },
        Parsed::Incomplete => None,
    }
}

/// The licence in the block between `---` with which a model card begins.
fn front_matter(card: &str) -> Option<String> {
    let block = card.trim_start().strip_prefix("---")?.split("\n---").next()?;
    let field = |name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().trim_matches(['"', '\'']).to_string()).filter(|value| !value.is_empty())
    };
    // "other" stands for a licence that has its name beside it.
    match field("license") {
        Some(name) if name == "other" => field("license_name").or(Some(name)),
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_card_names_its_licence() {
        assert_eq!(front_matter("---\nlanguage: en\nlicense: apache-2.0\n---\n# M\n").as_deref(), Some("apache-2.0"));
        let other = "---\nlicense: other\nlicense_name: \"llama3\"\n---\n";
        assert_eq!(front_matter(other).as_deref(), Some("llama3"));
        assert_eq!(front_matter("# M\nlicense: mit\n"), None);
    }
}
