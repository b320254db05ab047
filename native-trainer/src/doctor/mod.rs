//! An examination of a model's files: what is read, what is inferred, what contradicts what. No weights are read.

mod files;
mod template;
mod tokens;

use std::fmt;
use std::path::Path;

use indicatif::BinaryBytes;
use paddock_engine::config::Head;
use paddock_engine::tokenizer::{Tokenizer, TokenizerFiles};
use paddock_engine::weights::{Checkpoint, Format, folder_tokenizer_files};

use crate::Result;
use crate::files::ModelSource;
use crate::training::VERSION;

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Inferred, or worth knowing.
    Note,
    /// Answers or training suffer from it.
    Bad,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub verdict: Verdict,
    /// What it is, in a sentence or two.
    pub text: String,
}

/// Findings about one part of a model.
#[derive(Debug, Clone)]
pub struct Section {
    /// The part: "files", "weights", "tokenizer", "template" or "ending".
    pub title: &'static str,
    /// In the order in which they were found.
    pub findings: Vec<Finding>,
}

impl Section {
    fn new(title: &'static str) -> Self {
        Self { title, findings: Vec::new() }
    }

    fn good(&mut self, text: impl Into<String>) {
        self.findings.push(Finding { verdict: Verdict::Good, text: text.into() });
    }

    fn note(&mut self, text: impl Into<String>) {
        self.findings.push(Finding { verdict: Verdict::Note, text: text.into() });
    }

    fn bad(&mut self, text: impl Into<String>) {
        self.findings.push(Finding { verdict: Verdict::Bad, text: text.into() });
    }
}

/// All that was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The model's path as it was given.
    pub model: String,
    /// Part by part.
    pub sections: Vec<Section>,
}

impl Report {
    /// The findings with `verdict`.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Finding> {
        self.sections.iter().flat_map(|section| &section.findings).filter(move |finding| finding.verdict == verdict)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "paddock {VERSION} on {}-{}", std::env::consts::OS, std::env::consts::ARCH)?;
        writeln!(f, "model   {}", self.model)?;
        for section in &self.sections {
            writeln!(f, "\n{}", section.title)?;
            for Finding { verdict, text } in &section.findings {
                let sign = match verdict {
                    Verdict::Good => "ok",
                    Verdict::Note => "note",
                    Verdict::Bad => "WRONG",
                };
                writeln!(f, "  {sign:5}  {}", text.replace('\n', "\n         "))?;
            }
        }
        let (bad, notes) = (self.with(Verdict::Bad).count(), self.with(Verdict::Note).count());
        writeln!(f, "\n{bad} wrong, {notes} to note")
    }
}

/// Examines the model at `path`. What cannot be read is a finding.
///
/// # Errors
/// When there is nothing at `path`.
pub fn examine(path: &Path) -> Result<Report> {
    let opened = pollster::block_on(Checkpoint::open(ModelSource::open(path)?));
    let mut sections = vec![files::examine(&ModelSource::open(path)?, opened.as_ref().ok().map(Checkpoint::files))];
    let mut weights = Section::new("weights");
    let (checkpoint, files) = match opened {
        Ok(mut checkpoint) => {
            describe(&checkpoint, &mut weights);
            let files = pollster::block_on(checkpoint.tokenizer_files());
            (Some(checkpoint), files)
        }
        Err(error) => {
            weights.bad(format!("the model cannot be opened: {error}"));
            (None, pollster::block_on(async { folder_tokenizer_files(&ModelSource::open(path)?).await }))
        }
    };
    sections.push(weights);
    let config = checkpoint.as_ref().map(Checkpoint::config);
    let read = files.and_then(|files| Ok((Tokenizer::from_files(&files)?, files)));
    match read {
        Ok((tokenizer, files)) => {
            let ends = tokens::ends(config, &tokenizer);
            let own = !matches!(files, TokenizerFiles::Gguf(_));
            sections.push(tokens::examine(config, &tokenizer, &ends, own));
            let kind = checkpoint.as_ref().map(Checkpoint::template).unwrap_or_default();
            sections.extend(template::examine(&tokenizer, kind, &ends));
        }
        Err(error) => {
            let mut section = Section::new("tokenizer");
            section.bad(error.to_string());
            sections.push(section);
        }
    }
    Ok(Report { model: path.display().to_string(), sections })
}

fn describe(checkpoint: &Checkpoint<ModelSource>, section: &mut Section) {
    let config = checkpoint.config();
    let format = match checkpoint.format() {
        Format::HuggingFace => "a Hugging Face folder",
        Format::Gguf => "a GGUF file",
        Format::WebPack => "a web pack",
    };
    let mut encodings: Vec<String> = checkpoint.tensors().map(|tensor| format!("{:?}", tensor.encoding)).collect();
    encodings.sort();
    encodings.dedup();
    let (tensors, bytes) = (checkpoint.tensors().count(), BinaryBytes(checkpoint.total_bytes()));
    section.good(format!("{format} with {tensors} tensors, {bytes}, stored as {}", encodings.join(", ")));
    checkpoint.notes().iter().for_each(|note| section.note(note));
    let head = match &config.head {
        Head::Tied => "the head is the embedding",
        Head::Untied => "the head is a matrix of its own",
        Head::Score(_) => "a score head",
    };
    section.good(format!(
        "{} blocks of width {}, {} heads ({} for keys), {} tokens, context {}; {head}",
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.vocab_size,
        config.max_position_embeddings
    ));
}
