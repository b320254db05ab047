//! The models a site offers: `models/index.json` beside the page, and a folder with a web pack for each.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// `models/index.json`: `{"models": [{"name": "…", "path": "…", "bytes": 98362432, "quantization": "q4",
/// "kind": "chat", "trunk": null, "cache_bytes": 94371840, "license": "apache-2.0", "source": null}]}`. The page preselects the first chat model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// In the order in which the page lists them.
    pub models: Vec<Pack>,
}

/// One model: a web pack as `paddock pack` writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What it does.
    #[serde(default)]
    pub kind: Kind,
    /// The chat model that a score head was trained on, by its name.
    #[serde(default)]
    pub trunk: Option<String>,
    /// Bytes of keys and values for a full context, in f32.
    #[serde(default)]
    pub cache_bytes: u64,
    /// What it may be used for: the name of a licence, or its address.
    #[serde(default)]
    pub license: Option<String>,
    /// Where it comes from; of a downloaded one, the address of its folder.
    #[serde(default)]
    pub source: Option<String>,
    /// It is in this browser's storage, not on the site.
    #[serde(default)]
    pub stored: bool,
    /// Bytes that are in the storage, of one that is not there completely.
    #[serde(default)]
    pub present_bytes: Option<u64>,
}

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Answers conversations.
    #[default]
    Chat,
    /// Scores answers.
    Score,
    /// Scores answers with the trunk of a chat model.
    ScoreHead,
    /// Turns its base into a chat model.
    Diff,
}

impl Kind {
    /// Its name for display.
    pub fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat model",
            Self::Score => "score model",
            Self::ScoreHead => "score head",
            Self::Diff => "weight diff",
        }
    }
}

/// Most entries of an index that are read.
const MOST_MODELS: usize = 1000;

impl Pack {
    /// What tells it from all others, whatever their names: the place and the folder.
    pub fn id(&self) -> String {
        format!("{}/{}", if self.stored { "stored" } else { "site" }, self.path)
    }

    /// Bytes of the loaded model: its weights, and the keys and values of a full context.
    pub fn memory(&self) -> u64 {
        self.bytes.saturating_add(self.cache_bytes)
    }
}

impl Index {
    /// Reads an index. Of two entries with one folder the first counts; an entry without a name has its folder's.
    ///
    /// # Errors
    /// A sentence when the text is not an index, or has too many entries.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let mut index: Self = serde_json::from_str(text).map_err(|error| {
            format!("models/index.json is not a list of models ({error}); `paddock index` writes it.")
        })?;
        if index.models.len() > MOST_MODELS {
            let count = index.models.len();
            return Err(format!("models/index.json lists {count} models, expected at most {MOST_MODELS}."));
        }
        let mut paths = BTreeSet::new();
        index.models.retain(|pack| !pack.path.is_empty() && paths.insert(pack.path.clone()));
        for pack in &mut index.models {
            if pack.name.trim().is_empty() {
                pack.name.clone_from(&pack.path);
            }
        }
        Ok(index)
    }

    /// The model with this id.
    pub fn find(&self, id: &str) -> Option<&Pack> {
        self.models.iter().find(|pack| pack.id() == id)
    }

    /// The models that answer.
    pub fn chat_models(&self) -> impl Iterator<Item = &Pack> {
        self.models.iter().filter(|pack| pack.kind == Kind::Chat)
    }

    /// The weight diffs.
    pub fn diffs(&self) -> impl Iterator<Item = &Pack> {
        self.models.iter().filter(|pack| pack.kind == Kind::Diff)
    }

    /// The models that score.
    pub fn score_models(&self) -> impl Iterator<Item = &Pack> {
        self.models.iter().filter(|pack| matches!(pack.kind, Kind::Score | Kind::ScoreHead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_and_anything_else_is_one_sentence() {
        let text = r#"{"models":[{"name":"tiny","path":"tiny","bytes":12,"quantization":null},{"name":"b","path":"c","bytes":1,"quantization":"q4"}]}"#;
        let index = Index::from_json(text).unwrap();
        assert_eq!((&index.models[0].quantization, index.models[0].kind), (&None, Kind::Chat));
        assert_eq!(index.models[1].path, "c");
        assert_eq!(index, Index::from_json(&serde_json::to_string(&index).unwrap()).unwrap());
        let text =
            r#"{"models":[{"name":"head","path":"h","bytes":12,"kind":"score_head","trunk":"tiny","cache_bytes":30}]}"#;
        let head = Index::from_json(text).unwrap().models.remove(0);
        assert_eq!((head.kind, head.trunk.as_deref(), head.memory()), (Kind::ScoreHead, Some("tiny"), 42));
        let error = Index::from_json("<!doctype html>").unwrap_err();
        assert!(error.starts_with("models/index.json is not a list of models"), "{error}");
    }

    #[test]
    fn every_model_has_an_id_of_its_own() {
        let text = r#"{"models":[{"name":"","path":"a","bytes":1},{"name":"b","path":"a","bytes":2},
            {"name":"same","path":"c","bytes":3},{"name":"same","path":"d","bytes":4},{"name":"e","path":"","bytes":5}]}"#;
        let index = Index::from_json(text).unwrap();
        let names: Vec<&str> = index.models.iter().map(|pack| pack.name.as_str()).collect();
        assert_eq!(names, ["a", "same", "same"]);
        assert_eq!(index.find("site/d").map(|pack| pack.bytes), Some(4));
        let stored = Pack { stored: true, ..index.models[1].clone() };
        assert_ne!(stored.id(), index.models[1].id());
    }

    #[test]
    fn an_index_that_is_far_too_long_is_refused() {
        let entries: Vec<String> =
            (0..=MOST_MODELS).map(|at| format!(r#"{{"name":"m","path":"{at}","bytes":1}}"#)).collect();
        let error = Index::from_json(&format!(r#"{{"models":[{}]}}"#, entries.join(","))).unwrap_err();
        assert!(error.contains("1001 models"), "{error}");
    }
}
