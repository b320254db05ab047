//! Stop texts. Text is shown only when it can no longer be part of one.

use std::ops::Range;

/// Looks for stop texts in streamed text.
#[derive(Debug, Clone, Default)]
pub(super) struct StopMatcher {
    stops: Vec<String>,
    held: String,
    /// Parts of what is held that are never shown: special tokens, which only a stop text sees.
    hidden: Vec<Range<usize>>,
}

impl StopMatcher {
    /// A matcher for `stops`; empty ones are ignored.
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(), ..Self::default() }
    }

    /// Adds `text`. Returns what may be shown, and whether a stop text was found, which ends the answer before it.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            let shown = self.release(at);
            self.held.clear();
            self.hidden.clear();
            return (shown, true);
        }
        (self.release(self.held.len() - self.longest_prefix_at_end()), false)
    }

    /// As [`StopMatcher::push`] for a special token, which stop texts may contain but nobody is shown.
    pub fn push_special(&mut self, token: &str) -> (String, bool) {
        if !self.stops.iter().any(|stop| stop.contains(token)) {
            return (String::new(), false);
        }
        self.hidden.push(self.held.len()..self.held.len() + token.len());
        self.push(token)
    }

    /// The text that is held back, after the last piece.
    pub fn finish(&mut self) -> String {
        self.release(self.held.len())
    }

    /// Takes the first `length` bytes of what is held and returns what can be seen of them.
    fn release(&mut self, length: usize) -> String {
        let mut shown = String::new();
        let mut at = 0;
        for part in &self.hidden {
            shown.push_str(self.held.get(at..part.start.min(length)).unwrap_or_default());
            at = part.end.min(length);
        }
        shown.push_str(self.held.get(at..length).unwrap_or_default());
        self.held.drain(..length);
        self.hidden.retain_mut(|part| {
            *part = part.start.saturating_sub(length)..part.end.saturating_sub(length);
            part.start < part.end
        });
        shown
    }

    /// Length of the longest suffix of the held text that is a prefix of a stop text.
    fn longest_prefix_at_end(&self) -> usize {
        self.held
            .char_indices()
            .map(|(at, _)| &self.held[at..])
            .find(|end| self.stops.iter().any(|stop| stop.starts_with(end)))
            .map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool, String) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut shown = Vec::new();
        for piece in pieces {
            let (text, stopped) = matcher.push(piece);
            shown.push(text);
            if stopped {
                return (shown, true, matcher.finish());
            }
        }
        (shown, false, matcher.finish())
    }

    #[test]
    fn text_without_stops_passes_at_once() {
        assert_eq!(run(&[], &["a", "b"]), (vec!["a".into(), "b".into()], false, String::new()));
    }

    #[test]
    fn a_stop_over_several_pieces_is_cut_away() {
        let (shown, stopped, rest) = run(&["USER:"], &["Hi! US", "ER", ": more"]);
        assert_eq!((shown.concat().as_str(), stopped, rest.as_str()), ("Hi! ", true, ""));
    }

    #[test]
    fn a_false_start_is_released() {
        let (shown, stopped, rest) = run(&["USER:"], &["a U", "SA", " US"]);
        assert_eq!(shown, ["a ", "USA", " "]);
        assert_eq!((stopped, rest.as_str()), (false, "US"));
    }

    #[test]
    fn the_earliest_stop_wins() {
        let (shown, stopped, _) = run(&["b", "abc"], &["xabc"]);
        assert_eq!((shown.concat().as_str(), stopped), ("x", true));
    }

    #[test]
    fn the_longest_beginning_of_any_stop_is_held() {
        for stops in [["abab!", "b?"], ["b?", "abab!"]] {
            let (shown, stopped, rest) = run(&stops, &["zab"]);
            assert_eq!((shown.concat().as_str(), stopped, rest.as_str()), ("z", false, "ab"), "{stops:?}");
            let (shown, stopped, rest) = run(&stops, &["zab", "ab!"]);
            assert_eq!((shown.concat().as_str(), stopped, rest.as_str()), ("z", true, ""), "{stops:?}");
            let (shown, stopped, rest) = run(&stops, &["zab", "a", "c"]);
            assert_eq!((shown.concat().as_str(), stopped, rest.as_str()), ("zabac", false, ""), "{stops:?}");
        }
    }

    #[test]
    fn characters_of_several_bytes_are_not_split() {
        let (shown, _, rest) = run(&["é!"], &["caf", "é", "s"]);
        assert_eq!((shown, rest.as_str()), (vec!["caf".to_string(), String::new(), "és".into()], ""));
    }

    #[test]
    fn special_tokens_end_an_answer_and_are_never_shown() {
        let matcher = |stops: &[&str]| StopMatcher::new(&stops.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut ends = matcher(&["<|im_end|>"]);
        assert_eq!(ends.push("Hi"), ("Hi".to_string(), false));
        assert_eq!(ends.push_special("<s>"), (String::new(), false));
        assert_eq!(ends.push_special("<|im_end|>"), (String::new(), true));

        let mut longer = matcher(&["<|im_end|>\nuser"]);
        assert_eq!(longer.push("Hi"), ("Hi".to_string(), false));
        assert_eq!(longer.push_special("<|im_end|>"), (String::new(), false));
        assert_eq!(longer.push("\nus"), (String::new(), false));
        assert_eq!(longer.push("ual"), ("\nusual".to_string(), false));
        assert_eq!(longer.push_special("<|im_end|>"), (String::new(), false));
        assert_eq!(longer.push("\n"), (String::new(), false));
        assert_eq!(longer.finish(), "\n");

        let mut text = matcher(&["USER:"]);
        assert_eq!(text.push("US"), (String::new(), false));
        assert_eq!(text.push_special("<s>"), (String::new(), false));
        assert_eq!(text.push("ER:"), (String::new(), true), "a special token is no part of the text");
    }
}
