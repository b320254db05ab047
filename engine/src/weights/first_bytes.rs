//! What a file is by its first bytes, where it is not what its name says: what downloads that went wrong leave behind.

use crate::{Error, Result};

/// How many first bytes are enough.
pub(super) const FIRST_BYTES: u64 = 256;

/// Refuses a file that begins as something else than a model's file: a Git LFS pointer, a web page, a server's answer.
///
/// # Errors
/// [`Error::Format`] that says what the file is instead.
pub fn check_first_bytes(file: &str, bytes: &[u8]) -> Result<()> {
    match mistaken(bytes) {
        Some(problem) => Err(Error::format(file, problem)),
        None => Ok(()),
    }
}

fn mistaken(bytes: &[u8]) -> Option<&'static str> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let begins = |with: &str| bytes.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()));
    if begins("version https://git-lfs.github.com/spec/") {
        return Some(
            "this is a Git LFS pointer, which only stands for the file; run \"git lfs pull\" in the folder, or \
             download the file itself",
        );
    }
    if ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| begins(tag)) {
        return Some("this is a web page that was saved in the file's place; download the file itself");
    }
    if begins("<?xml") || begins("<error>") {
        return Some("this is a server's error message that was saved in the file's place; download it again");
    }
    // The answers of model hubs to requests for what is not there or not allowed.
    const ANSWERS: [&str; 5] =
        ["Entry not found", "Repository not found", "Invalid username or password", "Access to model", "Not Found"];
    if ANSWERS.iter().any(|answer| begins(answer)) {
        return Some(
            "this is a server's refusal (not found, or no access) that was saved in the file's place; check the \
             address and your access, and download it again",
        );
    }
    None
}

/// What a model's file of another format is, for errors where one format was expected and another found.
pub(super) fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let json_header = bytes.get(8..9) == Some(b"{") && bytes.get(5..8) == Some(&[0; 3]);
    match bytes {
        _ if bytes.starts_with(b"GGUF") => Some("a GGUF file"),
        _ if bytes.starts_with(b"ggjt") || bytes.starts_with(b"tjgg") || bytes.starts_with(b"lmgg") => {
            Some("a model of llama.cpp from before GGUF; convert the original model anew")
        }
        _ if bytes.starts_with(b"PK\x03\x04") => Some("a zip archive, as PyTorch's files are"),
        _ if bytes.starts_with(b"\x1f\x8b") => Some("a gzip archive; unpack it first"),
        _ if json_header => Some("a safetensors file"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_in_a_file_s_place_is_named() {
        for (bytes, words) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 7\n"[..], "git lfs pull"),
            (b"\n  <!DOCTYPE html><html>", "web page"),
            (b"\xef\xbb\xbf<HTML lang=en>", "web page"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "error message"),
            (b"Entry not found", "refusal"),
        ] {
            let error = check_first_bytes("model.safetensors", bytes).unwrap_err().to_string();
            assert!(error.starts_with("model.safetensors: ") && error.contains(words), "{error}");
        }
        for bytes in [&b""[..], b"{}", b"GGUF\x03\0\0\0", b"\x10\0\0\0\0\0\0\0{}"] {
            assert!(check_first_bytes("f", bytes).is_ok());
        }
        assert_eq!(other_format(b"\x10\0\0\0\0\0\0\0{\"a\""), Some("a safetensors file"));
    }

    #[test]
    fn files_of_other_formats_are_named() {
        for (bytes, words) in [
            (&b"GGUF"[..], "GGUF file"),
            (b"ggjt\x01", "before GGUF"),
            (b"tjgg\x01", "before GGUF"),
            (b"lmgg\x01", "before GGUF"),
            (b"PK\x03\x04", "zip"),
            (b"\x1f\x8b\x08", "gzip"),
        ] {
            assert!(other_format(bytes).is_some_and(|format| format.contains(words)), "{words}");
        }
        for bytes in [&b"abcdefgh{"[..], b"\x10\0\0\0\0\0\0\0[", b"{}"] {
            assert_eq!(other_format(bytes), None);
        }
    }
}
