//! `paddock tokenize`: text to token ids and back.

use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use serde::Serialize;

use super::console;
use crate::Result;
use crate::files::ModelSource;

/// Turn text into token ids, or ids into text
#[derive(Debug, Args)]
pub(super) struct Tokenize {
    /// Model folder (Hugging Face or web pack) or .gguf file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The text [default: standard input, to its last byte]
    #[arg(long, value_name = "TEXT", conflicts_with = "decode")]
    text: Option<String>,
    /// Turn these ids into text instead (separated by commas or spaces)
    #[arg(long, value_name = "IDS")]
    decode: Option<Ids>,
    /// Add no special tokens; when decoding, leave them out
    #[arg(long)]
    no_special: bool,
    /// Print one JSON object with ids, tokens and text
    #[arg(long)]
    json: bool,
}

/// Token ids as this command prints them, or with commas.
#[derive(Debug, Clone)]
struct Ids(Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split([',', ' ', '\n']).filter(|word| !word.is_empty());
        let ids = words.map(|word| word.parse().map_err(|_| format!("\"{word}\" is not a token id")));
        ids.collect::<Result<_, _>>().map(Self)
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    ids: Vec<u32>,
    tokens: Vec<Option<String>>,
    text: String,
}

impl Tokenize {
    pub fn run(&self) -> Result<()> {
        let tokenizer = pollster::block_on(async {
            let mut checkpoint = Checkpoint::open(ModelSource::open(&self.model)?).await?;
            Tokenizer::from_files(&checkpoint.tokenizer_files().await?)
        })?;
        let (ids, text) = match &self.decode {
            Some(Ids(ids)) => (ids.clone(), tokenizer.decode(ids, self.no_special)?),
            None => {
                let text = self.text.clone().map_or_else(console::read_stdin, Ok)?;
                (tokenizer.encode(&text, !self.no_special)?, text)
            }
        };
        let mut output = io::stdout().lock();
        if self.json {
            let tokens = ids.iter().map(|id| tokenizer.token(*id)).collect();
            serde_json::to_writer(&mut output, &Report { ids, tokens, text }).map_err(io::Error::from)?;
            writeln!(output)?;
        } else if self.decode.is_some() {
            writeln!(output, "{text}")?;
        } else {
            let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
            writeln!(output, "{}", ids.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_printed_and_with_commas() {
        assert_eq!("1 323 288".parse::<Ids>().unwrap().0, [1, 323, 288]);
        assert_eq!("1,323, 288".parse::<Ids>().unwrap().0, [1, 323, 288]);
        assert_eq!("1 -3".parse::<Ids>().unwrap_err(), "\"-3\" is not a token id");
    }
}
