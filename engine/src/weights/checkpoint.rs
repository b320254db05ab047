//! A checkpoint of any format, as names, shapes, encodings and rows of bytes.

use std::collections::HashMap;
use std::ops::Range;

use super::diff::WeightDiff;
use super::layout::{LocatedTensor, TensorInfo, TensorTable};
use super::manifest::{MANIFEST, shard_name};
use super::overlay::TensorChange;
use super::pack_reader::{self, PackReader};
use super::source::Source;
use super::tokenizer_files::folder_tokenizer_files;
use super::{Encoding, dequantize, folder, foreign, gguf, quantize};
use crate::config::{Head, HeadSpec, LM_HEAD, Param};
use crate::prompt::TemplateKind;
use crate::tokenizer::{GgufVocabulary, TokenizerFiles};
use crate::{Error, ModelConfig, Result};

/// What a checkpoint was stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A Hugging Face folder: `config.json` and safetensors files.
    HuggingFace,
    /// One GGUF file.
    Gguf,
    /// A folder that `paddock pack` made: `manifest.json` and shards.
    WebPack,
}

/// What only one format has.
#[derive(Debug)]
enum Contents {
    Folder,
    Gguf(Box<GgufVocabulary>),
    Pack(PackReader),
}

/// An opened checkpoint: every parameter that its configuration asks for is there and has the right shape.
#[derive(Debug)]
pub struct Checkpoint<S: Source> {
    source: S,
    table: TensorTable,
    contents: Contents,
    by_name: HashMap<String, usize>,
    /// Changes, with the tensors as they are then.
    changes: HashMap<String, (TensorChange, TensorInfo)>,
    /// In place of the one in the source.
    tokenizer: Option<TokenizerFiles>,
}

impl<S: Source> Checkpoint<S> {
    /// Opens whatever `source` holds: a web pack (`manifest.json`), a Hugging Face folder, or a GGUF model of one
    /// file or several parts.
    /// Only headers are read.
    ///
    /// # Errors
    /// When the source holds none of these, a header is damaged, the architecture is not LLaMA's, or a tensor is
    /// missing, mis-shaped or in an encoding that is not read.
    pub async fn open(source: S) -> Result<Self> {
        let (table, contents) = if let Some((table, pack)) = pack_reader::open(&source).await? {
            (table, Contents::Pack(pack))
        } else if let Some(weights) = folder::weight_files(&source).await? {
            (folder::open(&source, weights).await?, Contents::Folder)
        } else if let Some(files) = gguf::files(&source).await? {
            let (table, vocabulary) = gguf::open(&source, files).await?;
            (table, Contents::Gguf(Box::new(vocabulary)))
        } else if source.size(&shard_name(0)).await?.is_some() {
            let hint = "this looks like a web pack that was not completed or copied whole; pack or download it again";
            return Err(Error::Missing { file: MANIFEST.to_string(), hint: hint.to_string() });
        } else {
            return Err(foreign::no_weights(&source).await?);
        };
        // Never fails later: every tensor's columns are whole blocks.
        table.tensors.iter().try_for_each(|tensor| tensor.info.bytes().map(drop))?;
        let by_name = by_name(&table.tensors);
        Ok(Self { source, table, contents, by_name, changes: HashMap::new(), tokenizer: None })
    }

    /// Makes `changes`, by Hugging Face's names, to rows as they are read; changed tensors are then F32. A head that is the
    /// embedding becomes one of its own when either of them changes: adapters are trained on them apart. An embedding that is
    /// replaced by one of more rows gives the model more tokens; its head must then be replaced, too.
    ///
    /// # Errors
    /// When the model has no such tensor, or a change is made for another shape.
    pub fn change(&mut self, changes: HashMap<String, TensorChange>) -> Result<()> {
        let embedding = self.table.config.embedding();
        let rows = |change: &TensorChange| Some(change.replaced.as_ref()?.len() / self.table.config.hidden_size.max(1));
        let vocabulary = changes.get(embedding).and_then(rows).filter(|rows| *rows > self.table.config.vocab_size);
        self.table.config.vocab_size = vocabulary.unwrap_or(self.table.config.vocab_size);
        if self.table.config.head == Head::Tied && [LM_HEAD, embedding].iter().any(|name| changes.contains_key(*name)) {
            self.table.config.head = Head::Untied;
            let tied = self.by_name.get(embedding).and_then(|&index| self.table.tensors.get(index)).cloned();
            self.table.tensors.extend(tied.map(|mut tensor| {
                tensor.info.name = LM_HEAD.to_string();
                tensor
            }));
            self.by_name = by_name(&self.table.tensors);
        }
        if let (Some(rows), Some(_), None) = (vocabulary, self.tensor(LM_HEAD), changes.get(LM_HEAD)) {
            return Err(Error::Request(format!(
                "the adapter's embedding has {rows} tokens, more than the model, and the adapter brings no {LM_HEAD} of as many; \
                 save it with PEFT's save_embedding_layers, or merge it with PEFT"
            )));
        }
        for (name, change) in changes {
            let Some(info) = self.tensor(&name) else {
                return Err(Error::Request(format!(
                    "the model has no tensor {name} to change; the adapter is of another model"
                )));
            };
            let mut info = TensorInfo { encoding: Encoding::F32, ..info.clone() };
            if change.replaced.is_some() && [LM_HEAD, embedding].contains(&name.as_str()) {
                info.shape[0] = vocabulary.unwrap_or(info.shape[0]);
            }
            if !change.fits(info.shape) {
                return Err(Error::Request(format!(
                    "the adapter's matrices for {name} do not fit its shape {:?}; the adapter is of another model",
                    info.shape
                )));
            }
            self.changes.insert(name, (change, info));
        }
        Ok(())
    }

    /// Gives the model another tokenizer, with its chat template: an adapter's, which was trained with it.
    pub fn replace_tokenizer(&mut self, files: TokenizerFiles) {
        self.tokenizer = Some(files);
    }

    /// Puts `head` in the place of the model's own, which an adapter was trained with. Its tensors have no values until
    /// [`Checkpoint::change`] replaces them.
    ///
    /// # Errors
    /// When the head brings its own trunk or has several layers.
    pub fn put_head(&mut self, head: HeadSpec) -> Result<()> {
        let hidden = self.table.config.hidden_size;
        let params = head.params(hidden);
        // Rows of any vector stand where the values are to be.
        let vector = self.table.tensors.iter().find(|tensor| tensor.info.shape == [1, hidden]).cloned();
        let (Some(vector), None, true) = (vector, &head.trunk, params.iter().all(|param| param.shape[0] == 1)) else {
            return Err(Error::Request(
                "the adapter's head has several scores or layers; only one is read".to_string(),
            ));
        };
        let names: Vec<String> = params.iter().map(|param| param.name.clone()).collect();
        self.table.tensors.retain(|tensor| tensor.info.name != LM_HEAD && !names.contains(&tensor.info.name));
        self.table.tensors.extend(params.into_iter().map(|Param { name, shape }| {
            let mut tensor = vector.clone();
            tensor.info = TensorInfo { name, shape, ..tensor.info };
            tensor
        }));
        self.by_name = by_name(&self.table.tensors);
        self.table.config.head = Head::Score(head);
        Ok(())
    }

    /// The files that hold the weights.
    pub fn files(&self) -> &[String] {
        &self.table.files
    }

    /// What the checkpoint is stored as.
    pub fn format(&self) -> Format {
        match &self.contents {
            Contents::Folder => Format::HuggingFace,
            Contents::Gguf(_) => Format::Gguf,
            Contents::Pack(_) => Format::WebPack,
        }
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.table.config
    }

    /// The prompt format that the model was made for, if its pack states one; otherwise [`TemplateKind::Auto`].
    pub fn template(&self) -> TemplateKind {
        match &self.contents {
            _ if self.tokenizer.is_some() => TemplateKind::Auto,
            Contents::Folder | Contents::Gguf(_) => TemplateKind::Auto,
            Contents::Pack(pack) => pack.template,
        }
    }

    /// The description of a weight diff; `None` when the checkpoint is a model.
    pub fn weight_diff(&self) -> Option<&WeightDiff> {
        self.table.weight_diff.as_ref()
    }

    /// What the user should know of how the checkpoint was read, a sentence each: where its files contradict each other,
    /// and which of them was believed.
    pub fn notes(&self) -> &[String] {
        &self.table.notes
    }

    /// The tensor `name`, by Hugging Face's name; `None` when the model has no such parameter.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        match self.changes.get(name) {
            Some((_, info)) => Some(info),
            None => self.by_name.get(name).and_then(|&index| self.table.tensors.get(index)).map(|tensor| &tensor.info),
        }
    }

    /// Every parameter, in the order of [`ModelConfig::params`].
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.table
            .tensors
            .iter()
            .map(|tensor| self.changes.get(&tensor.info.name).map_or(&tensor.info, |(_, info)| info))
    }

    /// Bytes of all tensors together, for progress.
    pub fn total_bytes(&self) -> u64 {
        self.tensors().filter_map(|info| info.bytes().ok()).sum()
    }

    /// The bytes of the whole rows `rows` of tensor `name`, in its encoding and in Hugging Face's row order.
    ///
    /// # Errors
    /// When the model has no such tensor or row, or the source cannot deliver the bytes.
    pub async fn read_rows(&mut self, name: &str, rows: Range<usize>) -> Result<Vec<u8>> {
        let stored = self.by_name.get(name).and_then(|&index| self.table.tensors.get(index)).map(|tensor| &tensor.info);
        let (encoding, last) = stored.map_or((Encoding::F32, 0), |info| (info.encoding, info.shape[0]));
        let known = match self.changes.get(name) {
            // Rows that an adapter adds are nowhere stored.
            Some((_, info)) if rows.end <= info.shape[0] => rows.start.min(last)..rows.end.min(last),
            _ => rows.clone(),
        };
        let bytes = self.stored_rows(name, known.clone()).await?;
        let Some((change, TensorInfo { shape: [_, columns], .. })) = self.changes.get(name) else { return Ok(bytes) };
        let mut values = vec![0.0; rows.len() * columns];
        dequantize(encoding, &bytes, values.get_mut(..known.len() * columns).unwrap_or_default())?;
        change.apply(rows, *columns, &mut values);
        quantize(Encoding::F32, &values)
    }

    /// The rows as they are stored, in Hugging Face's order.
    async fn stored_rows(&mut self, name: &str, rows: Range<usize>) -> Result<Vec<u8>> {
        let tensor = self
            .by_name
            .get(name)
            .and_then(|&index| self.table.tensors.get(index))
            .ok_or_else(|| Error::Request(format!("the model has no tensor {name}")))?;
        if rows.start > rows.end || rows.end > tensor.info.shape[0] {
            return Err(Error::Shape {
                op: "read_rows",
                expected: format!("rows of {name} within 0..{}", tensor.info.shape[0]),
                got: format!("{rows:?}"),
            });
        }
        let mut reader = Reader { source: &self.source, files: &self.table.files, contents: &mut self.contents };
        match tensor.interleaved_heads {
            None => reader.read(tensor, rows).await,
            Some(head_dim) if tensor.info.shape[0] == 1 => {
                let bytes = reader.read(tensor, rows).await?;
                let value_bytes = tensor.info.encoding.block_bytes();
                Ok(half_split(&bytes, value_bytes, head_dim, 0..bytes.len() / value_bytes))
            }
            Some(head_dim) => {
                let heads = rows.start / head_dim..rows.end.div_ceil(head_dim);
                let first = heads.start * head_dim;
                let whole = reader.read(tensor, first..heads.end * head_dim).await?;
                Ok(half_split(&whole, tensor.info.row_bytes()?, head_dim, rows.start - first..rows.end - first))
            }
        }
    }

    /// Checks the files that were streamed against the manifest's digests; call it after the last tensor has been
    /// read. Only a web pack has digests.
    ///
    /// # Errors
    /// [`Error::Hash`] when a file's SHA-256 differs.
    pub async fn finish(&mut self) -> Result<()> {
        match &mut self.contents {
            Contents::Folder | Contents::Gguf(_) => {}
            Contents::Pack(pack) => {
                for shard in &mut pack.shards {
                    shard.finish(&self.source).await?;
                }
            }
        }
        Ok(())
    }

    /// The files that describe the model's tokenizer.
    ///
    /// # Errors
    /// When there are none, or they cannot be read.
    pub async fn tokenizer_files(&mut self) -> Result<TokenizerFiles> {
        if let Some(files) = &self.tokenizer {
            return Ok(files.clone());
        }
        match &self.contents {
            Contents::Folder => folder_tokenizer_files(&self.source).await,
            Contents::Pack(pack) => pack.tokenizer_files(&self.source).await,
            Contents::Gguf(vocabulary) => Ok(TokenizerFiles::Gguf((**vocabulary).clone())),
        }
    }
}

fn by_name(tensors: &[LocatedTensor]) -> HashMap<String, usize> {
    tensors.iter().enumerate().map(|(index, tensor)| (tensor.info.name.clone(), index)).collect()
}

/// Reads rows as they lie in the files.
struct Reader<'a, S> {
    source: &'a S,
    files: &'a [String],
    contents: &'a mut Contents,
}

impl<S: Source> Reader<'_, S> {
    async fn read(&mut self, tensor: &LocatedTensor, rows: Range<usize>) -> Result<Vec<u8>> {
        let row_bytes = tensor.info.row_bytes()?;
        let mut bytes = Vec::new();
        for piece in &tensor.pieces {
            let part = rows.start.max(piece.rows.start)..rows.end.min(piece.rows.end);
            if part.is_empty() {
                continue;
            }
            let at = |row: usize| piece.offset + (row - piece.rows.start) as u64 * row_bytes as u64;
            let read = self.read_file(piece.file, at(part.start)..at(part.end)).await?;
            if bytes.is_empty() { bytes = read } else { bytes.extend_from_slice(&read) }
        }
        if bytes.len() != rows.len() * row_bytes {
            return Err(Error::Read {
                file: format!("tensor {}", tensor.info.name),
                problem: format!("expected {} bytes, the source gave {}", rows.len() * row_bytes, bytes.len()),
            });
        }
        Ok(bytes)
    }

    async fn read_file(&mut self, file: usize, range: Range<u64>) -> Result<Vec<u8>> {
        if let Contents::Pack(pack) = self.contents
            && let Some(shard) = pack.shards.get_mut(file)
        {
            return shard.read(self.source, range).await;
        }
        match self.files.get(file) {
            Some(file) => self.source.read(file, range).await,
            None => Ok(Vec::new()),
        }
    }
}

/// Puts the rows of whole interleaved heads into Hugging Face's order, where a head's first half of rows turns with its
/// second half: row `j × head_dim / 2 + i` of a head lies at `2 × i + j`. Gives `wanted` of them.
pub fn half_split(interleaved: &[u8], row_bytes: usize, head_dim: usize, wanted: Range<usize>) -> Vec<u8> {
    let half = head_dim / 2;
    let mut rows = Vec::with_capacity(wanted.len() * row_bytes);
    for row in wanted {
        let (head, within) = (row / head_dim, row % head_dim);
        let from = (head * head_dim + 2 * (within % half) + within / half) * row_bytes;
        rows.extend_from_slice(interleaved.get(from..from + row_bytes).unwrap_or_default());
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;

    use crate::weights::layout::TensorPiece;
    use crate::weights::pack::Weights;
    use crate::weights::{MemorySource, tiny_model};

    fn tensor(name: &str, shape: [usize; 2], pieces: Vec<TensorPiece>) -> LocatedTensor {
        let info = TensorInfo { name: name.to_string(), shape, encoding: Encoding::F32 };
        LocatedTensor { info, pieces, interleaved_heads: None }
    }

    /// A checkpoint of two files, the first with the numbers from 0, the second with those from 100.
    fn checkpoint(tensors: Vec<LocatedTensor>) -> Checkpoint<MemorySource> {
        let files = [("a", 0), ("b", 100)].map(|(name, first)| (name.to_string(), bytes(first..first + 20)));
        let table = TensorTable {
            config: tiny_model::config(3),
            files: vec!["a".to_string(), "b".to_string()],
            tensors,
            weight_diff: None,
            notes: Vec::new(),
        };
        Checkpoint {
            source: MemorySource { files: files.into() },
            by_name: by_name(&table.tensors),
            table,
            contents: Contents::Folder,
            changes: HashMap::new(),
            tokenizer: None,
        }
    }

    fn bytes(values: impl IntoIterator<Item = u16>) -> Vec<u8> {
        values.into_iter().flat_map(|value| f32::from(value).to_le_bytes()).collect()
    }

    #[test]
    fn rows_are_joined_from_their_pieces() {
        let pieces =
            vec![TensorPiece { file: 0, offset: 4, rows: 0..2 }, TensorPiece { file: 1, offset: 8, rows: 2..4 }];
        let mut checkpoint = checkpoint(vec![tensor("t", [4, 2], pieces)]);
        assert_eq!(block_on(checkpoint.read_rows("t", 1..4)).unwrap(), bytes([3, 4, 102, 103, 104, 105]));
        assert_eq!(block_on(checkpoint.read_rows("t", 3..4)).unwrap(), bytes([104, 105]));
    }

    #[test]
    fn no_rows_are_none_and_rows_beyond_the_last_are_refused() {
        let mut checkpoint =
            checkpoint(vec![tensor("t", [4, 2], vec![TensorPiece { file: 0, offset: 0, rows: 0..4 }])]);
        assert!(block_on(checkpoint.read_rows("t", 1..1)).unwrap().is_empty());
        assert_eq!(block_on(checkpoint.read_rows("t", 3..4)).unwrap(), bytes([6, 7]));
        let backwards = Range { start: 3, end: 2 };
        for rows in [3..5, backwards] {
            assert!(matches!(block_on(checkpoint.read_rows("t", rows)), Err(Error::Shape { .. })));
        }
    }

    #[test]
    fn rows_of_later_heads_come_in_hugging_face_s_order() {
        let mut interleaved = tensor("q", [20, 1], vec![TensorPiece { file: 0, offset: 0, rows: 0..20 }]);
        interleaved.interleaved_heads = Some(4);
        let mut checkpoint = checkpoint(vec![interleaved]);
        assert_eq!(block_on(checkpoint.read_rows("q", 16..20)).unwrap(), bytes([16, 18, 17, 19]));
        assert_eq!(block_on(checkpoint.read_rows("q", 5..10)).unwrap(), bytes([6, 5, 7, 8, 10]));
    }

    #[test]
    fn an_adapter_s_head_takes_the_place_of_the_model_s() {
        let at = |offset, rows| vec![TensorPiece { file: 0, offset, rows: 0..rows }];
        let mut checkpoint = checkpoint(vec![
            // No sixteen numbers lie where this one does.
            tensor("small", [1, 2], at(72, 1)),
            tensor("vector", [1, 16], at(0, 1)),
            tensor(LM_HEAD, [1, 16], at(0, 1)),
            tensor("score.weight", [1, 16], at(0, 1)),
        ]);
        checkpoint.put_head(HeadSpec::classifier()).unwrap();
        let names: Vec<&str> = checkpoint.tensors().map(|info| info.name.as_str()).collect();
        assert_eq!(names, ["small", "vector", "score.weight"]);
        let replaced = TensorChange { replaced: Some(vec![2.0; 16]), ..TensorChange::default() };
        checkpoint.change(HashMap::from([("score.weight".to_string(), replaced)])).unwrap();
        assert_eq!(block_on(checkpoint.read_rows("score.weight", 0..1)).unwrap(), bytes([2; 16]));
    }

    #[test]
    fn an_adapter_s_longer_embedding_and_head_make_more_tokens() {
        let config = tiny_model::config(3);
        let (hidden, embedding) = (config.hidden_size, config.embedding());
        let open = || block_on(Checkpoint::open(tiny_model::folder(3, |_, _| 1.0))).unwrap();
        let longer = |value: f32| TensorChange { replaced: Some(vec![value; 5 * hidden]), ..TensorChange::default() };
        let mut model = open();
        let alone = HashMap::from([(embedding.to_string(), longer(1.0))]);
        let problem = model.change(alone).unwrap_err().to_string();
        assert!(problem.contains("has 5 tokens") && problem.contains(LM_HEAD), "{problem}");

        let mut model = open();
        let both = HashMap::from([(embedding.to_string(), longer(1.0)), (LM_HEAD.to_string(), longer(2.0))]);
        model.change(both).unwrap();
        assert_eq!(model.config().vocab_size, 5);
        assert_eq!(model.tensor(LM_HEAD).map(|info| info.shape), Some([5, hidden]));
        for rows in [0..3, 2..5, 4..5] {
            let read = block_on(model.read_rows(LM_HEAD, rows.clone())).unwrap();
            assert_eq!(read, bytes(vec![2; rows.len() * hidden]));
        }
        assert!(block_on(model.read_rows(LM_HEAD, 4..6)).is_err());
    }

    #[test]
    fn a_pack_s_prompt_format_goes_with_its_tokenizer() {
        let mut checkpoint = block_on(Checkpoint::open(tiny_model::pack())).unwrap();
        assert_eq!(checkpoint.template(), TemplateKind::Alpaca);
        checkpoint.replace_tokenizer(TokenizerFiles::Gguf(GgufVocabulary::default()));
        assert_eq!(checkpoint.template(), TemplateKind::Auto);
    }

    #[test]
    fn a_damaged_shard_is_noticed_at_the_end() {
        let open = || block_on(Checkpoint::open(tiny_model::pack())).unwrap();
        assert!(matches!(block_on(open().finish()), Err(Error::Hash { .. })));
        assert!(matches!(block_on(Weights::finish(&mut open())), Err(Error::Hash { .. })));
    }
}
