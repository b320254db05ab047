//! A bound on how much longer a normaliser makes a text: a few bytes of `tokenizer.json` could ask for gigabytes.

use serde_json::Value;

use crate::{Error, Result};

/// Published normalisers write at most three bytes for one, and Unicode's NFKC eighteen characters for one.
const MOST_GROWTH: usize = 256;
/// Most steps of a normaliser.
const MOST_STEPS: usize = 64;

/// Checks the `normalizer` of a `tokenizer.json`.
///
/// # Errors
/// When it has too many steps, or could make a text more than [`MOST_GROWTH`] times as long.
pub(super) fn check_growth(normalizer: &Value, file: &str) -> Result<()> {
    let mut steps = 0;
    let growth = growth(normalizer, &mut steps);
    if growth <= MOST_GROWTH && steps <= MOST_STEPS {
        return Ok(());
    }
    let problem = format!(
        "its normaliser has {steps} steps and makes a text up to {growth} times as long; expected at most {MOST_STEPS} \
         and {MOST_GROWTH}, so this is not a model's tokenizer"
    );
    Err(Error::format(file, problem))
}

/// How many bytes a byte of a text can become.
fn growth(step: &Value, steps: &mut usize) -> usize {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let inner = step.get("normalizers").and_then(Value::as_array);
    if let Some(inner) = inner {
        return inner.iter().fold(1, |product: usize, step| product.saturating_mul(growth(step, steps)));
    }
    *steps += 1;
    match step.get("type").and_then(Value::as_str) {
        // An empty pattern fits between all bytes. A regular expression may fit the empty text.
        Some("Replace") => {
            let content = step.get("content").map_or(0, length);
            match step.pointer("/pattern/String").map_or(0, length) {
                0 => content + 1,
                pattern => content.div_ceil(pattern).max(1),
            }
        }
        Some("Prepend") => step.get("prepend").map_or(0, length) + 1,
        Some("NFKC" | "NFKD") => 18,
        Some("NFC" | "NFD") => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn published_normalisers_pass_and_bombs_do_not() {
        let space = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
        let llama = json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, space] });
        for harmless in [json!(null), llama, json!({ "type": "NFKC" })] {
            assert!(check_growth(&harmless, "f").is_ok(), "{harmless}");
        }
        let double = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aaaaaaaa" });
        let bomb = json!({ "type": "Sequence", "normalizers": vec![double; 12] });
        let error = check_growth(&bomb, "tokenizer.json").unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("times as long"), "{error}");
        let many = json!({ "type": "Sequence", "normalizers": vec![json!({ "type": "Lowercase" }); 1000] });
        assert!(check_growth(&many, "f").is_err());
    }

    #[test]
    fn growth_is_counted_in_bytes() {
        let growth = |step: Value| growth(&step, &mut 0);
        let replace = |pattern: &str, content: &str| json!({ "type": "Replace", "pattern": { "String": pattern }, "content": content });
        // The byte itself, and six bytes that are put beside it.
        assert_eq!(growth(replace("", "▁▁")), 7);
        assert_eq!(growth(replace(" ", "▁")), 3);
        assert_eq!(growth(replace("ab", "c")), 1);
        assert_eq!(growth(json!({ "type": "Prepend", "prepend": "▁" })), 4);
        for (form, most) in [("NFKC", 18), ("NFKD", 18), ("NFC", 4), ("NFD", 4)] {
            assert_eq!(growth(json!({ "type": form })), most, "{form}");
        }
        let steps = [replace(" ", "▁"), json!({ "type": "NFC" }), json!({ "type": "Lowercase" })];
        assert_eq!(growth(json!({ "type": "Sequence", "normalizers": steps })), 12);
    }
}
