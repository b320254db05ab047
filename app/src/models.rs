//! The models a site offers: `models/index.json` beside the page, and a folder with a web pack for each.

use serde::{Deserialize, Serialize};

/// `models/index.json`: `{"models": [{"name": "…", "path": "…", "bytes": 98362432, "quantization": "q4"}]}`.
/// The page preselects the first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// In the order in which the page lists them.
    pub models: Vec<Pack>,
}

/// One model: a web pack as `paddock pack` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// Its name for people and for links (`?model=…`).
    pub name: String,
    /// Its folder, relative to `models/`.
    pub path: String,
    /// The size of its files.
    pub bytes: u64,
    /// How most of its weights are stored, as the pack's manifest says.
    #[serde(default)]
    pub quantization: Option<String>,
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    /// A sentence when the text is something else.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| {
            format!("models/index.json is not a list of models ({error}); `cargo xtask serve` writes it.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_and_anything_else_is_one_sentence() {
        let text = r#"{"models":[{"name":"tiny","path":"tiny","bytes":12,"quantization":null},{"name":"b","path":"c","bytes":1,"quantization":"q4"}]}"#;
        let index = Index::from_json(text).unwrap();
        assert_eq!(index.models[0].quantization, None);
        assert_eq!(index.models[1].path, "c");
        assert_eq!(index, Index::from_json(&serde_json::to_string(&index).unwrap()).unwrap());
        let error = Index::from_json("<!doctype html>").unwrap_err();
        assert!(error.starts_with("models/index.json is not a list of models"), "{error}");
    }
}
