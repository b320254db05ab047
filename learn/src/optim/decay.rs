//! Which parameters weight decay draws to 0.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A rule that tells parameters that decay from those that do not, by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayRule {
    /// Norms and biases do not decay (transformers' `Trainer`).
    #[default]
    Transformers,
    /// Biases and the layers' `layernorm.weight` do not decay; the final norm does (Safe-RLHF's
    /// `get_optimizer_grouped_parameters`).
    SafeRlhf,
}

impl DecayRule {
    const ALL: [(&'static str, Self); 2] = [("transformers", Self::Transformers), ("safe-rlhf", Self::SafeRlhf)];

    /// Whether the parameter `label` decays.
    pub fn decays(self, label: &str) -> bool {
        match self {
            Self::Transformers => !(label.ends_with("bias") || label.contains("norm")),
            Self::SafeRlhf => {
                let label = label.to_lowercase();
                !(label.contains("bias") || label.contains("layernorm.weight"))
            }
        }
    }
}

impl fmt::Display for DecayRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, rule)| rule == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for DecayRule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule).ok_or_else(|| {
            Error::Request(format!("the rule \"{name}\" is not known; choose transformers or safe-rlhf"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_and_biases_do_not_decay() {
        let matrices = ["model.layers.0.mlp.up_proj.weight", "lm_head.weight", "model.embed_tokens.weight"];
        let others = ["model.layers.0.input_layernorm.weight", "model.layers.0.mlp.up_proj.bias", "score_head.bias"];
        for rule in [DecayRule::Transformers, DecayRule::SafeRlhf] {
            assert!(matrices.into_iter().all(|label| rule.decays(label)), "{rule}");
            assert!(!others.into_iter().any(|label| rule.decays(label)), "{rule}");
            assert_eq!(rule.to_string().parse::<DecayRule>().unwrap(), rule);
        }
        let decays = [DecayRule::Transformers, DecayRule::SafeRlhf].map(|rule| rule.decays("model.norm.weight"));
        assert_eq!(decays, [false, true]);
    }
}
