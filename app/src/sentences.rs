//! Sentences of a text that is still growing, for those who hear it.

/// The end of the last complete sentence, line or paragraph in `text` after `from`, a place in bytes; `None` when none
/// is complete.
pub fn complete(text: &str, from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let mut end = None;
    let mut letters = rest.char_indices().peekable();
    while let Some((_, letter)) = letters.next() {
        let next = letters.peek();
        let ends = match letter {
            '\n' | '。' | '！' | '？' => true,
            '.' | '!' | '?' | '…' | ':' | '؟' | '।' => next.is_some_and(|(_, next)| next.is_whitespace()),
            _ => false,
        };
        if let Some((place, _)) = next.filter(|_| ends) {
            end = Some(from + place);
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_complete_is_said() {
        assert_eq!(complete("It is 3.5 m", 0), None);
        assert_eq!(complete("It is 3.5 m. And", 0), Some(12));
        assert_eq!(complete("It is 3.5 m. And", 12), None);
        assert_eq!(complete("One. Two! Three", 0), Some(9));
        assert_eq!(complete("One.\nTwo", 0), Some(5));
        assert_eq!(complete("你好。再见", 0), Some("你好。".len()));
        assert_eq!(complete("One.", 0), None, "it may go on: 1.5");
        assert_eq!(complete("é", 1), None);
    }
}
