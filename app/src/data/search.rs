//! Finding words in a text, whatever their case.

use std::ops::Range;

/// Characters that are shown before and after what was found.
const AROUND: usize = 50;

/// What is looked for.
pub struct Needle(Vec<char>);

impl Needle {
    /// `text` in any case.
    pub fn new(text: &str) -> Self {
        Self(text.chars().flat_map(char::to_lowercase).collect())
    }

    /// Whether it is nothing, which is found nowhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where it first stands in `text`.
    pub fn find(&self, text: &str) -> Option<Range<usize>> {
        let first = *self.0.first()?;
        // Most bytes rule themselves out. Letters beyond ASCII do not: in lower case the Kelvin sign is a k.
        let may_begin = |byte: u8| byte >= 0xc0 || first.is_ascii() && byte.eq_ignore_ascii_case(&(first as u8));
        let mut starts = text.bytes().enumerate().filter(|(_, byte)| may_begin(*byte));
        starts.find_map(|(start, _)| Some(start..start + self.length_at(&text[start..])?))
    }

    /// The bytes of it with which `text` begins; `None` when it does not begin with it.
    fn length_at(&self, text: &str) -> Option<usize> {
        let mut left = self.0.iter();
        for (at, letter) in text.char_indices() {
            if left.as_slice().is_empty() {
                return Some(at);
            }
            if !letter.to_lowercase().all(|letter| left.next() == Some(&letter)) {
                return None;
            }
        }
        left.as_slice().is_empty().then_some(text.len())
    }
}

/// What stands before `range` in `text`, in it, and after it, with an ellipsis where more does.
pub fn around(text: &str, range: Range<usize>) -> [String; 3] {
    let (before, after) = (&text[..range.start], &text[range.end..]);
    let start = before.char_indices().rev().nth(AROUND - 1).map_or(0, |(at, _)| at);
    let dots = if start > 0 { "…" } else { "" };
    [format!("{dots}{}", &before[start..]), text[range].to_string(), beginning(after, AROUND)]
}

/// At most `most` characters of `text`, with an ellipsis where it is longer.
pub fn beginning(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_case() {
        let find = |needle: &str, text: &str| Needle::new(needle).find(text);
        assert_eq!(find("HORSE", "A horse, a Horse"), Some(2..7));
        assert_eq!(find("straße", "Die STRAßE"), Some(4..11));
        assert_eq!(find("É", "caf\u{e9}"), Some(3..5));
        assert_eq!(find("k", "5 \u{212a}"), Some(2..5));
        // Two characters in lower case.
        assert_eq!(find("i\u{307}x", "\u{130}X"), Some(0..3));
        assert_eq!(find("i", "\u{130}"), None);
        for (needle, text) in [("horses", "a horse"), ("a", ""), ("aab", "aac")] {
            assert_eq!(find(needle, text), None, "{needle}");
        }
        assert_eq!(find("aab", "aaab"), Some(1..4));
    }

    #[test]
    fn what_is_found_is_shown_with_what_stands_around_it() {
        let text = format!("{}horse{}", "ä".repeat(60), "ö".repeat(60));
        let range = Needle::new("horse").find(&text).unwrap();
        let [before, found, after] = around(&text, range);
        assert_eq!((before, found), (format!("…{}", "ä".repeat(50)), "horse".to_string()));
        assert_eq!(after, format!("{}…", "ö".repeat(50)));
        assert_eq!(around("a horse", 2..7), ["a ", "horse", ""]);
        assert_eq!(beginning("äöü", 2), "äö…");
    }
}
