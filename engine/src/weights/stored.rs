//! The tensors that the files of a folder hold, and which of them a model's parameter is.

use std::collections::HashMap;

use serde_json::Value;

use super::Encoding;
use super::layout::{LocatedTensor, TensorPiece, check_shape, mismatch};
use super::quant::recode;
use super::safetensors::FileEntry;
use super::source::Source;
use crate::config::{Architecture, Head, HeadSpec, LM_HEAD, Mixture, Param};
use crate::{Error, ModelConfig, Result};

/// What every block of both architectures has, as the end of its name.
const ANCHOR: &str = "layers.0.self_attn.q_proj.weight";
const EMBEDDING: &str = "embed_tokens.weight";
/// Rows of the embedding that are compared at a time.
const ROWS: u64 = 1024;

/// The tensors of a folder by their names in its files.
#[derive(Debug)]
pub(super) struct StoredTensors {
    /// Each with the number of its file.
    by_name: HashMap<String, (usize, FileEntry)>,
    /// What stands before the names of the trunk's tensors in these files, and in [`ModelConfig::params`].
    prefix: String,
    canonical: &'static str,
}

impl StoredTensors {
    /// The tensors of a model of `architecture`. Files that were saved from a bare trunk, by a wrapper or by a compiler
    /// have other prefixes before the same names.
    pub fn new(by_name: HashMap<String, (usize, FileEntry)>, architecture: Architecture) -> Self {
        let canonical = match architecture {
            Architecture::Llama => "model.",
            Architecture::Opt => "model.decoder.",
        };
        let mut prefixes: Vec<&str> = by_name.keys().filter_map(|name| name.strip_suffix(ANCHOR)).collect();
        prefixes.sort_unstable();
        if prefixes.len() > 1 {
            // Other blocks are those of an encoder of images, which has no table of tokens.
            prefixes.retain(|prefix| by_name.contains_key(&format!("{prefix}{EMBEDDING}")));
        }
        let prefix = match prefixes.as_slice() {
            [only] if !by_name.contains_key(&format!("{canonical}{ANCHOR}")) => (*only).to_string(),
            _ => canonical.to_string(),
        };
        Self { by_name, prefix, canonical }
    }

    /// The stored tensor that is the parameter `name`, with the number of its file.
    fn find(&self, name: &str) -> Option<&(usize, FileEntry)> {
        if let Some(rest) = name.strip_prefix(self.canonical) {
            return self.by_name.get(&format!("{}{rest}", self.prefix));
        }
        self.by_name.get(name).or_else(|| {
            let mut wrapped = self
                .by_name
                .iter()
                .filter(|(stored, _)| stored.strip_suffix(name).is_some_and(|wrapper| wrapper.ends_with('.')));
            wrapped.next().filter(|_| wrapped.next().is_none()).map(|(_, found)| found)
        })
    }

    /// Whether the parameter `name` is stored.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The names in the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The name of the first file's tensor whose numbers are of type `dtype`.
    pub fn of_dtype(&self, dtypes: &[&str]) -> Option<&str> {
        let found = self.by_name.iter().filter(|(_, (_, entry))| dtypes.contains(&entry.dtype.as_str()));
        found.map(|(name, _)| name.as_str()).min()
    }

    /// Where the parameter lies, whose shape is checked. A tied table of tokens may be stored under the head's name.
    pub fn locate(&self, config: &ModelConfig, param: &Param) -> Result<LocatedTensor> {
        let embedding = format!("{}{EMBEDDING}", self.canonical);
        let found = self.find(&param.name);
        let found =
            found.or_else(|| self.find(LM_HEAD).filter(|_| config.head == Head::Tied && param.name == embedding));
        let Some((file, entry)) = found else {
            let is_head = config.head == Head::Untied && param.name == LM_HEAD;
            let hint = if is_head { self.without_head() } else { String::new() };
            return Err(mismatch(param, format!("nothing: the checkpoint lacks it{hint}")));
        };
        let encoding = encoding(&param.name, entry)?;
        let info = check_shape(param, &entry.shape, encoding)?;
        let rows = 0..info.shape[0];
        let pieces = vec![TensorPiece { file: *file, offset: entry.offset, rows }];
        Ok(LocatedTensor { info, pieces, interleaved_heads: None })
    }

    /// What may be the matter with a checkpoint without a head that is known.
    fn without_head(&self) -> String {
        const MOST: usize = 8;
        let known = |name: &&str| name.contains("layers.") && !name.contains("gating.") || name.ends_with(EMBEDDING);
        let mut others: Vec<&str> =
            self.names().filter(|name| !known(name) && !name.ends_with("norm.weight")).collect();
        others.sort_unstable();
        match others.as_slice() {
            [] => "; if the model's embeddings are tied, config.json must say so".to_string(),
            others => format!(
                "; beside the blocks it holds {}, which is no score head that Paddock knows",
                others[..others.len().min(MOST)].join(", ")
            ),
        }
    }

    /// Lets what is stored decide about biases and the head, where the configuration (`json`) says otherwise. Returns a sentence
    /// for the user about each difference.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub async fn overrule<S: Source>(
        &self,
        config: &mut ModelConfig,
        json: &Value,
        source: &S,
        files: &[String],
    ) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        if let Some(head) = self.score_head(json, config)? {
            config.head = Head::Score(head);
        }
        config.detect(|name| self.has(name));
        if config.architecture == Architecture::Llama && !config.is_head_alone() {
            let has = |part: &str| self.has(&format!("model.layers.0.{part}.bias"));
            for (claimed, stored, what) in [
                (&mut config.attention_bias, has("self_attn.q_proj"), "q, k and v"),
                (&mut config.attention_output_bias, has("self_attn.o_proj"), "the output of attention"),
                (&mut config.mlp_bias, has("mlp.gate_proj"), "the feed-forward layers"),
            ] {
                if *claimed != stored {
                    *claimed = stored;
                    notes.push(match stored {
                        true => format!(
                            "the checkpoint has biases on {what}, of which config.json says nothing; they are used"
                        ),
                        false => format!(
                            "config.json asks for biases on {what}, which the checkpoint lacks; they count as zero"
                        ),
                    });
                }
            }
        }
        let embedding = self.find(config.embedding());
        if config.head == Head::Tied
            && let (Some(embedding), Some(head)) = (embedding, self.find(LM_HEAD))
            && differ(source, files, embedding, head).await?
        {
            config.head = Head::Untied;
            notes.push(format!(
                "config.json says that the output projection is the embedding (\"tie_word_embeddings\"), but the \
                 checkpoint holds {LM_HEAD} with other values; it is used"
            ));
        }
        let beyond = format!("{}layers.{}.", self.prefix, config.num_hidden_layers);
        if self.names().any(|name| name.starts_with(&beyond)) {
            notes.push(format!(
                "the checkpoint holds more blocks than the {} that config.json asks for; the others are left out",
                config.num_hidden_layers
            ));
        }
        Ok(notes)
    }

    /// A score head that is known by its tensors alone, where no projection on the vocabulary is stored.
    fn score_head(&self, json: &Value, config: &ModelConfig) -> Result<Option<HeadSpec>> {
        let is_causal = json["architectures"][0].as_str().is_some_and(|class| class.ends_with("ForCausalLM"));
        let wanted = match &config.head {
            Head::Score(head) => head.trunk.is_none() && head.layers().iter().any(|layer| !self.has(&layer.weight)),
            Head::Tied => !is_causal && !self.has(LM_HEAD),
            Head::Untied => !self.has(LM_HEAD),
        };
        if !wanted && !Mixture::is_among(|name| self.has(name)) {
            return Ok(None);
        }
        let rows = |name: &str| {
            let (_, entry) = self.find(name)?;
            usize::try_from(*entry.shape.first()?).ok().filter(|_| entry.shape.len() == 2)
        };
        HeadSpec::from_tensors(json, "config.json", rows, |name| self.has(name))
    }

    /// A tensor of the model's blocks that is not among `params`: a part that this architecture does not have.
    pub fn foreign(&self, config: &ModelConfig, params: &[Param]) -> Option<&str> {
        let blocks = format!("{}layers.", self.prefix);
        let foreign = self.names().filter(|name| {
            let Some((layer, part)) = name.strip_prefix(&blocks).and_then(|rest| rest.split_once('.')) else {
                return false;
            };
            let own = format!("{}layers.{layer}.{part}", self.canonical);
            let within = layer.parse().is_ok_and(|layer: usize| layer < config.num_hidden_layers);
            within && !is_computed(part) && !params.iter().any(|param| param.name == own)
        });
        foreign.min()
    }
}

/// Tables that old versions of transformers saved and compute now.
fn is_computed(part: &str) -> bool {
    ["inv_freq", "cos_cached", "sin_cached", "masked_bias"].iter().any(|table| part.ends_with(table))
}

fn encoding(name: &str, entry: &FileEntry) -> Result<Encoding> {
    entry.encoding().ok_or_else(|| {
        Error::Unsupported(format!(
            "tensor {name} is stored as {}; expected F32, F16 or BF16, convert the model first",
            entry.dtype
        ))
    })
}

/// Whether two matrices differ in shape or in a value.
async fn differ<S: Source>(
    source: &S,
    files: &[String],
    one: &(usize, FileEntry),
    other: &(usize, FileEntry),
) -> Result<bool> {
    if one.1.shape != other.1.shape {
        return Ok(true);
    }
    let rows = one.1.shape.first().copied().unwrap_or(0).max(1);
    let read = async |(file, entry): &(usize, FileEntry), first: u64| {
        let row_bytes = entry.bytes / rows;
        let name = files.get(*file).map_or("", String::as_str);
        let end = rows.min(first + ROWS);
        let bytes = source.read(name, entry.offset + first * row_bytes..entry.offset + end * row_bytes).await?;
        recode(bytes, encoding(&entry.name, entry)?, Encoding::F32)
    };
    let mut first = 0;
    while first < rows {
        if read(one, first).await? != read(other, first).await? {
            return Ok(true);
        }
        first += ROWS;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::ops::Range;

    use pollster::block_on;
    use serde_json::json;

    use crate::weights::tiny_model::{self, EMBEDDING as TABLE, NORM, Q};

    fn entry(name: &str, dtype: &str, shape: &[u64], offset: u64) -> (usize, FileEntry) {
        let bytes = 4 * shape.iter().product::<u64>();
        (0, FileEntry { name: name.to_string(), dtype: dtype.to_string(), shape: shape.to_vec(), offset, bytes })
    }

    fn stored(tensors: &[(&str, &[u64])]) -> StoredTensors {
        let by_name = tensors.iter().map(|(name, shape)| ((*name).to_string(), entry(name, "F32", shape, 0))).collect();
        StoredTensors::new(by_name, Architecture::Llama)
    }

    #[test]
    fn the_first_tensor_of_a_type_is_named() {
        let by_name = [("a", "F32"), ("c", "U8"), ("b", "U8")];
        let by_name = by_name.map(|(name, dtype)| (name.to_string(), entry(name, dtype, &[1], 0))).into();
        let stored = StoredTensors::new(by_name, Architecture::Llama);
        assert_eq!(stored.of_dtype(&["I8", "U8"]), Some("b"));
        assert_eq!(stored.of_dtype(&["I8"]), None);
    }

    #[test]
    fn only_a_tied_table_of_tokens_may_lie_under_the_head_s_name() {
        let stored = stored(&[(LM_HEAD, &[3, 16])]);
        let locate = |head: Head, name: &str, shape| {
            let config = ModelConfig { head, ..tiny_model::config(3) };
            stored.locate(&config, &Param { name: name.to_string(), shape }).map_err(|error| error.to_string())
        };
        assert!(locate(Head::Tied, TABLE, [3, 16]).is_ok());
        assert!(locate(Head::Untied, TABLE, [3, 16]).unwrap_err().contains("lacks it"));
        assert!(locate(Head::Tied, Q, [3, 16]).unwrap_err().contains("lacks it"));
    }

    #[test]
    fn a_head_that_is_absent_comes_with_a_hint_and_other_tensors_do_not() {
        let stored = stored(&[]);
        let hint = |head: Head, name: &str| {
            let config = ModelConfig { head, ..tiny_model::config(3) };
            let error = stored.locate(&config, &Param { name: name.to_string(), shape: [1, 16] }).unwrap_err();
            error.to_string().contains("embeddings are tied")
        };
        assert!(hint(Head::Untied, LM_HEAD));
        assert!(!hint(Head::Untied, NORM) && !hint(Head::Tied, LM_HEAD));
    }

    #[test]
    fn a_causal_model_with_tied_embeddings_has_no_score_head() {
        let config = tiny_model::config(3);
        let found = |class: &str, names: &[(&str, &[u64])]| {
            stored(names).score_head(&json!({ "architectures": [class] }), &config).unwrap().is_some()
        };
        let score: &[(&str, &[u64])] = &[("score.weight", &[1, 16])];
        assert!(found("RewardModel", score));
        assert!(!found("LlamaForCausalLM", score));
        assert!(!found("RewardModel", &[score[0], (LM_HEAD, &[3, 16])]));
    }

    #[test]
    fn foreign_parts_are_those_within_the_model_s_blocks() {
        let config = tiny_model::config(3);
        let params = config.params();
        let foreign =
            |name: &str| stored(&[(Q, &[16, 16]), (name, &[1])]).foreign(&config, &params).map(str::to_string);
        assert_eq!(foreign("model.layers.0.odd.weight").as_deref(), Some("model.layers.0.odd.weight"));
        for name in [NORM, "model.layers.1.odd.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "odd.weight"] {
            assert_eq!(foreign(name), None, "{name}");
        }
    }

    /// Notes what is read.
    struct Noted {
        bytes: Vec<u8>,
        ranges: RefCell<Vec<Range<u64>>>,
    }

    impl Source for Noted {
        fn list(&self) -> Vec<String> {
            Vec::new()
        }

        async fn size(&self, _: &str) -> Result<Option<u64>> {
            Ok(Some(self.bytes.len() as u64))
        }

        async fn read(&self, _: &str, range: Range<u64>) -> Result<Vec<u8>> {
            self.ranges.borrow_mut().push(range.clone());
            Ok(self.bytes[range.start as usize..range.end as usize].to_vec())
        }
    }

    #[test]
    fn matrices_are_compared_to_their_last_row_and_read_once() {
        let compared = |rows: u64, changed: Option<usize>| {
            let mut bytes = vec![0; 16 + 16 * rows as usize];
            if let Some(row) = changed {
                bytes[16 + 8 * row] = 1;
            }
            let source = Noted { bytes, ranges: RefCell::default() };
            let (one, other) = (entry("a", "F32", &[rows, 2], 16), entry("b", "F32", &[rows, 2], 16 + 8 * rows));
            let differs = block_on(differ(&source, &["m".to_string()], &one, &other)).unwrap();
            (differs, source.ranges.into_inner())
        };
        assert_eq!(compared(1024, None), (false, vec![16..8208, 8208..16400]));
        assert_eq!(compared(1026, None), (false, vec![16..8208, 8224..16416, 8208..8224, 16416..16432]));
        assert!(compared(1026, Some(0)).0 && compared(1026, Some(1025)).0);
    }
}
