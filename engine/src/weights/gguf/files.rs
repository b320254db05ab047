//! Which files of a folder are a GGUF model: one, or the parts that llama.cpp's gguf-split makes. A file is known by its
//! first bytes; its name matters only where there are several.

use std::collections::BTreeSet;

use crate::weights::folder::parts;
use crate::weights::source::Source;
use crate::{Error, Result};

const MAGIC: &[u8] = b"GGUF";

/// The GGUF files of `source`, those of a split model in order; `None` when it holds none.
///
/// # Errors
/// When it holds several models, or a part is missing.
pub(in crate::weights) async fn files<S: Source>(source: &S) -> Result<Option<Vec<String>>> {
    let listed = source.list();
    let mut named: Vec<String> = listed.iter().filter(|name| is_named(name)).cloned().collect();
    if named.is_empty() {
        for name in listed {
            if source.size(&name).await?.is_some_and(|size| size >= 24) && source.read(&name, 0..4).await? == MAGIC {
                named.push(name);
            }
        }
    }
    let stems: BTreeSet<Option<&str>> = named.iter().map(|name| stem(name)).collect();
    match (named.as_slice(), stems.into_iter().collect::<Vec<_>>().as_slice()) {
        ([], _) => Ok(None),
        (_, [Some(stem)]) => parts(&named, stem, "gguf"),
        ([_], _) => Ok(Some(named)),
        (several, _) => Err(Error::Request(format!(
            "the folder holds {} GGUF files ({}); give the path of one",
            several.len(),
            several.join(", ")
        ))),
    }
}

fn is_named(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf")
}

/// What stands before the number in the name of one part of a split model, such as `m` of `m-00001-of-00002.gguf`.
pub fn stem(name: &str) -> Option<&str> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(number) && is_number(count)).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_two_numbers_of_five_digits() {
        assert_eq!(stem("m-00001-of-00002.gguf"), Some("m"));
        for name in ["m-1-of-00002.gguf", "m-00001-of-2.gguf", "m-1-of-2.gguf", "m-abcde-of-fghij.gguf"] {
            assert_eq!(stem(name), None, "{name}");
        }
    }
}
