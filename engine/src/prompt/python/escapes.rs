//! Escapes in the texts of a template, which Python reads in another way than minijinja.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

/// `source` with every escape that is not read as in Python spelled so that it is: `\/` is no escape; `\a`, `\v` and
/// `\U` are, and so is the end of a line. A source that is not valid is left for the parser to refuse.
pub(super) fn with_escapes(source: &str, syntax: SyntaxConfig) -> String {
    let tokens: Result<Vec<_>, _> = tokenize(source, false, syntax).collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    for (token, span) in tokens.unwrap_or_default() {
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        if let (Token::String(_), Some(before), Some(text)) = (token, source.get(at..start), source.get(start..end)) {
            out += before;
            out += &respelled(text);
            at = end;
        }
    }
    out + source.get(at..).unwrap_or_default()
}

fn respelled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        out += before;
        let mut after = escape.chars();
        let spelled = match after.next() {
            Some('/') => "\\\\/".to_owned(),
            Some('a') => "\\x07".to_owned(),
            Some('v') => "\\x0b".to_owned(),
            Some('\n') => String::new(),
            Some('U') => match long(escape) {
                Some(c) => {
                    after = escape.get(9..).unwrap_or_default().chars();
                    c.to_string()
                }
                None => "\\U".to_owned(),
            },
            Some(other) => format!("\\{other}"),
            None => "\\".to_owned(),
        };
        out += &spelled;
        rest = after.as_str();
    }
    out + rest
}

/// The character of `U` and eight hexadecimal digits. What would end a text or begin an escape is left as it is.
fn long(escape: &str) -> Option<char> {
    let code = u32::from_str_radix(escape.get(1..9)?, 16).ok()?;
    char::from_u32(code).filter(|c| !matches!(c, '\\' | '\'' | '"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_escapes_of_texts_are_respelled() {
        let cases = [
            (r"{{ 'a\/b' }} \/ {# '\/' #}", r"{{ 'a\\/b' }} \/ {# '\/' #}"),
            (r"{{ 'a\\/b' ~ 'c' ~ '\\\/' }}", r"{{ 'a\\/b' ~ 'c' ~ '\\\\/' }}"),
            (r"{% raw %}{{ '\/' }}{% endraw %}", r"{% raw %}{{ '\/' }}{% endraw %}"),
            (r"{{ '\U0001F999\a\n' }}", r"{{ '🦙\x07\n' }}"),
            ("{{ 'a\\\nb' }}", "{{ 'ab' }}"),
            (r"{{ 'open \/ }}", r"{{ 'open \/ }}"),
        ];
        for (source, expected) in cases {
            assert_eq!(with_escapes(source, SyntaxConfig::default()), expected, "{source}");
        }
    }
}
