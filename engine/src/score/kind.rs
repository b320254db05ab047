//! What makes a score of a model that does not say so itself.

use std::fmt;
use std::str::FromStr;

use super::steps::{GOOD, StepFormat};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// How a model's scores are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeadKind {
    /// As its configuration and tensors say.
    #[default]
    Auto,
    /// Nemotron's: a language model whose logit of token 0, after the conversation, is the reward
    /// (Llama-3.1-Nemotron-70B-Reward-HF, Llama-3.3-Nemotron-70B-Reward).
    Nemotron,
    /// Math-Shepherd's: a language model that says "+" or "-" at the tag after each step.
    MathShepherd,
    /// RLHFlow's process reward models: language models that answer each step with "+" or "-".
    RlhflowPrm,
    /// RLHFlow's preference models: language models that say which of two answers, A or B, is better.
    PairPreference,
}

/// The logits of some tokens of a language model, and what is made of them.
pub(super) struct TokenScores {
    pub tokens: Vec<u32>,
    /// The score is the first's probability against the other.
    pub is_probability: bool,
}

impl HeadKind {
    /// Every kind, by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("auto", Self::Auto),
        ("nemotron", Self::Nemotron),
        ("math-shepherd", Self::MathShepherd),
        ("rlhflow-prm", Self::RlhflowPrm),
        ("pair-preference", Self::PairPreference),
    ];

    /// The tokens whose logits are the scores of a language model that is read like this.
    ///
    /// # Errors
    /// When the tokenizer does not tell the marks from each other.
    pub(super) fn token_scores(self, tokenizer: &Tokenizer) -> Result<TokenScores> {
        let [mark, other] = match self {
            Self::Auto | Self::Nemotron => return Ok(TokenScores { tokens: vec![0], is_probability: false }),
            Self::MathShepherd | Self::RlhflowPrm => [GOOD, "-"],
            Self::PairPreference => ["A", "B"],
        };
        let tokens = vec![last_token(mark, tokenizer)?, last_token(other, tokenizer)?];
        match tokens[0] == tokens[1] {
            false => Ok(TokenScores { tokens, is_probability: true }),
            true => Err(Error::Request(format!(
                "the tokenizer writes \"{mark}\" and \"{other}\" as the same token, but the head \"{self}\" weighs one against \
                 the other; the model is of another kind"
            ))),
        }
    }

    /// How steps are read, for a process reward model.
    pub(super) fn steps(self) -> Option<StepFormat> {
        match self {
            Self::MathShepherd => Some(StepFormat::MathShepherd),
            Self::RlhflowPrm => Some(StepFormat::Rlhflow),
            Self::Auto | Self::Nemotron | Self::PairPreference => None,
        }
    }
}

impl fmt::Display for HeadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for HeadKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            Error::Request(format!("the head \"{name}\" is not known; choose one of {}", names.join(", ")))
        })
    }
}

/// The last token of `text` alone, which is how the authors' code finds a mark's token.
pub(super) fn last_token(text: &str, tokenizer: &Tokenizer) -> Result<u32> {
    let last = tokenizer.encode(text, false)?.last().copied();
    last.ok_or_else(|| {
        Error::Request(format!("the tokenizer makes no token of \"{text}\"; it belongs to another model"))
    })
}

/// The tokens with which Llama 3's chat template ends a question and begins the answer. A mixture by question finds its
/// weights at the first of them.
///
/// # Errors
/// When the tokenizer is not of Llama 3's kind.
pub(super) fn question_end(tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let special = |token: &str| {
        tokenizer.token_id(token).ok_or_else(|| {
            Error::Request(format!(
                "this model weighs its rewards where Llama 3's chat template begins the answer, but its tokenizer has no \
                 {token}; it belongs to another model"
            ))
        })
    };
    let mut ids = vec![special("<|eot_id|>")?, special("<|start_header_id|>")?];
    ids.extend(tokenizer.encode("assistant", false)?);
    ids.push(special("<|end_header_id|>")?);
    ids.extend(tokenizer.encode("\n\n", false)?);
    Ok(ids)
}
