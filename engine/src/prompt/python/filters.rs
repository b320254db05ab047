//! Filters on texts that Jinja2 has and minijinja has not.

use minijinja::value::{Rest, Tuple, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

use super::arguments::Arguments;
use super::{charge, format};

pub(super) fn add(environment: &mut Environment) {
    environment.add_filter("truncate", truncate);
    environment.add_filter("striptags", strip_tags);
    environment.add_filter("wordwrap", wrap);
    environment.add_filter("format", |state: &State, text: String, arguments: Rest<ValueOrKwargs>| {
        let arguments = arguments.into_values();
        let by_name = arguments.last().filter(|last| last.is_kwargs()).cloned();
        let value = by_name.unwrap_or_else(|| Value::from(Tuple::from(arguments)));
        format::by_percent(state, &text, &value)
    });
}

/// The first `count` characters.
fn first(text: &str, count: usize) -> &str {
    text.char_indices().nth(count).map_or(text, |(at, _)| &text[..at])
}

/// `text | truncate(length=255, killwords=False, end='...', leeway=5)`.
fn truncate(state: &State, text: String, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    charge(state, text.len())?;
    let arguments = Arguments::bind(&arguments.into_values(), ["length", "killwords", "end", "leeway"], 0)?;
    let length: usize = arguments.get(0)?.unwrap_or(255);
    let end: String = arguments.get(2)?.unwrap_or_else(|| "...".to_owned());
    let leeway: usize = arguments.get(3)?.unwrap_or(5);
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let start = first(&text, length.saturating_sub(end.chars().count()));
    let whole_words = if arguments.get(1)?.unwrap_or(false) { None } else { start.rsplit_once(' ') };
    Ok(format!("{}{end}", whole_words.map_or(start, |(words, _)| words)))
}

/// MarkupSafe's `striptags`: without comments and tags, runs of white space as one space, entities as characters.
fn strip_tags(state: &State, text: String) -> Result<String, Error> {
    charge(state, text.len())?;
    let plain = without(&without(&text, "<!--", "-->"), "<", ">");
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(unescaped(&plain))
}

/// `text` without what stands between `open` and `close`.
fn without(text: &str, open: &str, close: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once(open) {
        let Some((_, after)) = inside.split_once(close) else { break };
        out += before;
        rest = after;
    }
    out + rest
}

/// The entities that HTML has for its own characters, and those by number.
fn unescaped(text: &str) -> String {
    const NAMED: [(&str, char); 6] =
        [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("nbsp", '\u{a0}')];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        out += before;
        let found = entity.split_once(';').and_then(|(name, after)| {
            let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => digits.parse().ok(),
            });
            let named = || NAMED.iter().find(|(known, _)| *known == name).map(|(_, c)| *c);
            Some((number.and_then(char::from_u32).or_else(named)?, after))
        });
        match found {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push('&');
                rest = entity;
            }
        }
    }
    out + rest
}

/// `text | wordwrap(width=79, break_long_words=True, wrapstring='\n', break_on_hyphens=True)`, as Python's `textwrap` does it.
fn wrap(state: &State, text: String, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let arguments = Arguments::bind(&arguments.into_values(), names, 0)?;
    let width = arguments.get::<usize>(0)?.unwrap_or(79).max(1);
    let between: String = arguments.get(2)?.unwrap_or_else(|| "\n".to_owned());
    charge(state, text.len().saturating_mul(2 + between.len()))?;
    let (breaks, hyphens) = (arguments.get(1)?.unwrap_or(true), arguments.get(3)?.unwrap_or(true));
    let lines = text.lines().map(|line| wrap_line(line, width, breaks, hyphens).join(&between));
    Ok(lines.collect::<Vec<_>>().join(&between))
}

/// The lines of at most `width` characters that a line becomes.
fn wrap_line(text: &str, width: usize, breaks: bool, hyphens: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut length) = (String::new(), 0);
    let mut finish = |line: &mut String| {
        let whole = std::mem::take(line);
        let kept = whole.trim_end();
        if !kept.is_empty() {
            lines.push(kept.to_owned());
        }
    };
    for mut piece in pieces(text, hyphens) {
        let mut count = piece.chars().count();
        if length + count > width && !piece.trim().is_empty() {
            if length >= width {
                finish(&mut line);
                length = 0;
            }
            while breaks && count > width {
                let head = first(piece, width - length);
                line += head;
                piece = &piece[head.len()..];
                count = piece.chars().count();
                finish(&mut line);
                length = 0;
            }
            if length + count > width {
                finish(&mut line);
                length = 0;
            }
        }
        // White space at the beginning of a further line is left out.
        if !(length == 0 && piece.trim().is_empty() && text.as_ptr() != piece.as_ptr()) {
            line += piece;
            length += count;
        }
    }
    finish(&mut line);
    lines
}

/// Words and the white space between them; with `hyphens` words end after those between letters, too.
fn pieces(text: &str, hyphens: bool) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let characters: Vec<(usize, char)> = text.char_indices().collect();
    let is_letter = |at: usize| characters.get(at).is_some_and(|(_, c)| c.is_alphabetic());
    for (at, (byte, c)) in characters.iter().enumerate().skip(1) {
        let before = characters[at - 1].1;
        let hyphen = hyphens && before == '-' && at >= 3 && is_letter(at - 2) && is_letter(at - 3);
        let after_hyphen = hyphen && is_letter(at) && is_letter(at + 1);
        if c.is_whitespace() != before.is_whitespace() || after_hyphen {
            pieces.push(&text[start..*byte]);
            start = *byte;
        }
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
    pieces
}
