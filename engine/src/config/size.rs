//! How long a model's context is, and what its parameters and its cache amount to.

use super::ModelConfig;
use crate::{Error, Result};

/// Tokens of context when nobody names a number: enough for a long conversation, and a cache that small devices hold.
pub const DEFAULT_CONTEXT: usize = 4096;

impl ModelConfig {
    /// Tokens of context: `wanted`, or by default what the model was made for, at most [`DEFAULT_CONTEXT`].
    ///
    /// # Errors
    /// [`Error::Request`] when `wanted` is 0 or more than the model was made for.
    pub fn context(&self, wanted: Option<usize>) -> Result<usize> {
        let longest = self.max_position_embeddings;
        let context = wanted.unwrap_or(longest.min(DEFAULT_CONTEXT));
        if context == 0 || context > longest {
            return Err(Error::Request(format!(
                "a context of {context} tokens was asked for; this model was made for 1 to {longest}"
            )));
        }
        Ok(context)
    }

    /// Bytes of the keys and values of `tokens` tokens in f32, all layers together.
    pub fn kv_bytes(&self, tokens: usize) -> u64 {
        let values = 2 * self.num_hidden_layers as u64 * self.kv_dim() as u64;
        values * size_of::<f32>() as u64 * tokens as u64
    }

    /// Numbers that the model consists of.
    pub fn parameter_count(&self) -> u64 {
        self.params().iter().map(|param| param.shape[0] as u64 * param.shape[1] as u64).sum()
    }
}

/// Checks that `tokens` tokens of `what` fit a context of `context` tokens, which was chosen for a model that was made for
/// `longest`.
///
/// # Errors
/// [`Error::Request`], which says how a longer context is had where the model has one.
pub(crate) fn check_context(what: &str, tokens: usize, context: usize, longest: usize) -> Result<()> {
    if (1..=context).contains(&tokens) {
        return Ok(());
    }
    Err(Error::Request(match tokens {
        0 => format!("{what} has no tokens; expected at least one"),
        _ if tokens <= longest => format!(
            "{what} has {tokens} tokens, but the context that was set up has {context}; this model was made for {longest}, \
             so ask for more (on the command line: --context {longest})"
        ),
        _ => format!("{what} has {tokens} tokens; this model was made for at most {longest}"),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tiny(longest: usize) -> ModelConfig {
        let json = json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 10, "tie_word_embeddings": true,
            "max_position_embeddings": longest,
        });
        ModelConfig::from_json(&json, None).unwrap()
    }

    #[test]
    fn the_context_is_the_model_s_own_up_to_a_limit() {
        assert_eq!(tiny(100).context(None).unwrap(), 100);
        assert_eq!(tiny(8192).context(None).unwrap(), DEFAULT_CONTEXT);
        assert_eq!(tiny(8192).context(Some(8192)).unwrap(), 8192);
        for wanted in [0, 101] {
            let error = tiny(100).context(Some(wanted)).unwrap_err().to_string();
            assert!(error.contains("made for 1 to 100"), "{error}");
        }
    }

    #[test]
    fn a_prompt_that_is_too_long_names_the_way_out() {
        assert!(check_context("the prompt", 4096, 4096, 8192).is_ok());
        let error = check_context("the prompt", 5000, 4096, 8192).unwrap_err().to_string();
        assert!(
            error.contains("5000 tokens") && error.contains("has 4096") && error.contains("--context 8192"),
            "{error}"
        );
        let error = check_context("the prompt", 9000, 4096, 8192).unwrap_err().to_string();
        assert!(error.contains("at most 8192") && !error.contains("--context"), "{error}");
        assert!(check_context("the prompt", 0, 4096, 8192).unwrap_err().to_string().contains("no tokens"));
    }

    #[test]
    fn sizes_are_those_of_the_formula() {
        // Keys and values of two layers, two heads of two, four bytes each.
        assert_eq!(tiny(100).kv_bytes(7), 2 * 2 * 4 * 4 * 7);
        // Embedding; per layer q, k, v, o, gate, up, down and two norms; the last norm.
        assert_eq!(tiny(100).parameter_count(), 80 + 2 * (64 + 32 + 32 + 64 + 3 * 96 + 16) + 8);
    }
}
