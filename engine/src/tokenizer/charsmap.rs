//! SentencePiece's compiled character replacements: a double-array trie and the texts it points to.

use serde_json::{Value, json};

use crate::{Error, Result};

/// The map as the `normalizer` of a `tokenizer.json`. It is checked first that no text can lead outside the map,
/// because the crate that walks it does not check.
///
/// # Errors
/// When the map is damaged.
pub(super) fn normalizer(charsmap: &[u8], file: &str) -> Result<Value> {
    check(charsmap).ok_or_else(|| damaged(file))?;
    Ok(json!({ "type": "Precompiled", "precompiled_charsmap": base64(charsmap) }))
}

/// Walks every path of the trie (s-yata/darts-clone `darts.h`): `[bytes of the trie: u32][units: u32…][texts]`.
fn check(charsmap: &[u8]) -> Option<()> {
    let (size, rest) = charsmap.split_first_chunk::<4>()?;
    let (trie, texts) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)?;
    let (units, []) = trie.as_chunks::<4>() else { return None };
    let unit = |at: usize| units.get(at).map(|unit| u32::from_le_bytes(*unit) as usize);
    let texts = std::str::from_utf8(texts).ok()?;
    let offset = |unit: usize| (unit >> 10) << ((unit & (1 << 9)) >> 6);
    let mut visited = vec![false; units.len()];
    let mut bases = vec![offset(unit(0)?)];
    while let Some(base) = bases.pop() {
        for byte in 1..256 {
            let at = base ^ byte;
            let child = unit(at)?;
            if child & ((1 << 31) | 0xFF) != byte || std::mem::replace(visited.get_mut(at)?, true) {
                continue;
            }
            let next = at ^ offset(child);
            if (child >> 8) & 1 == 1 && !texts.is_char_boundary(unit(next)? & ((1 << 31) - 1)) {
                return None;
            }
            bases.push(next);
        }
    }
    Some(())
}

/// Checks every map in the `normalizer` of a `tokenizer.json`.
///
/// # Errors
/// When a map is damaged.
pub(super) fn check_normalizer(normalizer: &Value, file: &str) -> Result<()> {
    match normalizer {
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| match value.as_str() {
            Some(text) if key == "precompiled_charsmap" => {
                bytes_of_base64(text).as_deref().and_then(check).ok_or_else(|| damaged(file))
            }
            _ => check_normalizer(value, file),
        }),
        Value::Array(steps) => steps.iter().try_for_each(|step| check_normalizer(step, file)),
        _ => Ok(()),
    }
}

fn damaged(file: &str) -> Error {
    Error::format(file, "its table of character replacements is damaged")
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let sextet = bits >> (18 - 6 * at) & 63;
            text.push(if at <= group.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

fn bytes_of_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0;
        for at in 0..4 {
            let sextet = group.get(at).map_or(Some(0), |c| ALPHABET.iter().position(|known| known == c))?;
            bits = bits << 6 | sextet as u32;
        }
        bytes.extend(bits.to_be_bytes().into_iter().skip(1).take(group.len() * 6 / 8));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map that turns "A" into "a": the root's child is at 0 ^ 65, its leaf one unit on.
    fn map() -> Vec<u8> {
        let mut units = vec![0_u32; 256];
        let leaf_at = 2;
        units[65] = (65 ^ leaf_at) << 10 | 1 << 8 | 65;
        units[leaf_at as usize] = 1 << 31;
        let trie: Vec<u8> = units.into_iter().flat_map(u32::to_le_bytes).collect();
        [&(trie.len() as u32).to_le_bytes()[..], &trie, b"a\0"].concat()
    }

    #[test]
    fn a_whole_map_replaces_and_a_damaged_one_is_refused() {
        let whole = map();
        let rules = normalizer(&whole, "file").unwrap();
        assert!(check_normalizer(&json!({ "normalizers": [rules] }), "file").is_ok());
        let mut normalized = tokenizers::NormalizedString::from("AbA");
        let rules: tokenizers::NormalizerWrapper = serde_json::from_value(rules).unwrap();
        tokenizers::Normalizer::normalize(&rules, &mut normalized).unwrap();
        assert_eq!(normalized.get(), "aba");

        let mut outside = whole.clone();
        outside[4 + 65 * 4 + 2] = 0xFF;
        let mut long = whole.clone();
        long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut text_beyond = whole.clone();
        text_beyond[4 + 2 * 4] = 9;
        for damaged in [outside, long, text_beyond, whole[..100].to_vec(), Vec::new()] {
            assert!(normalizer(&damaged, "file").is_err());
            let rules = json!({ "type": "Precompiled", "precompiled_charsmap": base64(&damaged) });
            assert!(check_normalizer(&rules, "file").is_err());
        }
    }

    #[test]
    fn base64_is_its_own_inverse() {
        assert_eq!(base64(b"light w"), "bGlnaHQgdw==");
        for length in 0..9 {
            let bytes: Vec<u8> = (0..length).map(|i: u8| i.wrapping_mul(37)).collect();
            assert_eq!(bytes_of_base64(&base64(&bytes)).unwrap(), bytes);
        }
    }

    /// A map that turns "A" into "x" and "B" into "a". Each reads its offsets in another way: that of the root, 320,
    /// shares bits with the bytes, that of "A" is written in units of 256, and the leaf of "B" looks like a child of the
    /// root but for its highest bit (s-yata/darts-clone, `darts.h`).
    fn wide_map() -> Vec<u8> {
        let mut units = vec![0_u32; 512];
        units[0] = 320 << 10;
        units[320 ^ 65] = 1 << 10 | 1 << 9 | 1 << 8 | 65;
        units[320 ^ 65 ^ 256] = 1 << 31;
        units[320 ^ 66] = ((320 ^ 66) ^ 322) << 10 | 1 << 8 | 66;
        units[322] = 1 << 31 | 2;
        let trie: Vec<u8> = units.into_iter().flat_map(u32::to_le_bytes).collect();
        [&(trie.len() as u32).to_le_bytes()[..], &trie, b"x\0a\0"].concat()
    }

    #[test]
    fn every_kind_of_offset_is_followed() {
        let whole = wide_map();
        let rules = normalizer(&whole, "file").unwrap();
        let mut normalized = tokenizers::NormalizedString::from("AbBA");
        let normalizer: tokenizers::NormalizerWrapper = serde_json::from_value(rules).unwrap();
        tokenizers::Normalizer::normalize(&normalizer, &mut normalized).unwrap();
        assert_eq!(normalized.get(), "xbax");
        for leaf in [1, 322] {
            let mut text_beyond = whole.clone();
            text_beyond[4 + leaf * 4] = 9;
            assert!(check(&text_beyond).is_none(), "{leaf}");
            let rules = json!({ "normalizers": [{ "precompiled_charsmap": base64(&text_beyond) }] });
            assert!(check_normalizer(&rules, "file").is_err(), "{leaf}");
        }
    }
}
