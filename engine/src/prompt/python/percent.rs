//! Python's `%` between a text and values. minijinja's operator only knows numbers, so a filter takes its place.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind, State, Value};

use super::format::by_percent;

/// The filter's name, which no template uses.
pub(super) const FILTER: &str = "python_percent";

/// `left % right`: formatting where `left` is a text, and else the remainder with the sign of `right`.
pub(super) fn percent(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(text) = left.as_str() {
        return by_percent(state, text, right).map(Value::from);
    }
    let failed = |problem: &str| Error::new(ErrorKind::InvalidOperation, problem.to_string());
    let whole = |value: &Value| if value.is_integer() { i64::try_from(value.clone()).ok() } else { None };
    if let (Some(left), Some(right)) = (whole(left), whole(right)) {
        let remainder = i128::from(left).checked_rem(i128::from(right)).ok_or_else(|| failed("modulo by zero"))?;
        let right = i128::from(right);
        return Ok(Value::from((remainder + right) % right));
    }
    match (f64::try_from(left.clone()), f64::try_from(right.clone())) {
        (Ok(_), Ok(0.0)) => Err(failed("modulo by zero")),
        (Ok(left), Ok(right)) => Ok(Value::from((left % right + right) % right)),
        _ => Err(failed(&format!("tried to use % operator on unsupported types {} and {}", left.kind(), right.kind()))),
    }
}

/// `source` with `left | python_percent(right)` for every `left % right`. A source that is not valid is left for the
/// parser to refuse.
pub(super) fn with_filters(source: &str, syntax: SyntaxConfig) -> String {
    let tokens: Result<Vec<_>, _> = tokenize(source, false, syntax).collect();
    let Ok(tokens) = tokens else { return source.to_owned() };
    let kinds: Vec<Kind> = tokens.iter().map(|(token, _)| Kind::of(token)).collect();
    // Texts to put in, by their place, and how much of the source they stand for.
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    for (at, (token, span)) in tokens.iter().enumerate() {
        if !matches!(token, Token::Mod) {
            continue;
        }
        let (left, right) = (operand_before(&kinds, at), operand_after(&kinds, at));
        let (Some((_, from)), Some((_, to))) = (tokens.get(left), tokens.get(right)) else { continue };
        edits.push((from.start_offset as usize, 0, "(".to_owned()));
        edits.push((span.start_offset as usize, 1, format!(") | {FILTER}(")));
        edits.push((to.end_offset as usize, 0, ")".to_owned()));
    }
    edits.sort_by_key(|(at, ..)| *at);
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    for (place, length, text) in edits {
        out += source.get(at..place).unwrap_or_default();
        out += &text;
        at = place + length;
    }
    out + source.get(at..).unwrap_or_default()
}

/// What a token is for the extent of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Close,
    /// A name or a constant.
    Value,
    Sign,
    /// `**`, `*` and their like, which bind as `%` does or more tightly.
    Tight {
        power: bool,
    },
    Dot,
    Pipe,
    /// What ends any operand: other operators, keywords, the borders of a tag.
    Border,
}

impl Kind {
    fn of(token: &Token) -> Self {
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => Self::Open,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => Self::Close,
            Token::Ident("and" | "or" | "not" | "in" | "is" | "if" | "elif" | "else") => Self::Border,
            Token::Ident(_) | Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_) => {
                Self::Value
            }
            Token::Plus | Token::Minus => Self::Sign,
            Token::Pow => Self::Tight { power: true },
            Token::Mul | Token::Div | Token::FloorDiv | Token::Mod => Self::Tight { power: false },
            Token::Dot => Self::Dot,
            Token::Pipe => Self::Pipe,
            _ => Self::Border,
        }
    }
}

/// The first token of what is left of the `%` at `at`: all of a chain of `*`, `/` and `%`.
fn operand_before(kinds: &[Kind], at: usize) -> usize {
    let mut first = at;
    let mut depth = 0_usize;
    while let Some(before) = first.checked_sub(1) {
        match kinds[before] {
            Kind::Close => depth += 1,
            Kind::Open if depth == 0 => break,
            Kind::Open => depth -= 1,
            Kind::Border if depth == 0 => break,
            // A sign after a value is an operator, and else part of a number.
            Kind::Sign if depth == 0 => {
                let operator = before.checked_sub(1).is_some_and(|b| matches!(kinds[b], Kind::Value | Kind::Close));
                if operator {
                    break;
                }
            }
            _ => {}
        }
        first = before;
    }
    first
}

/// The last token of what is right of the `%` at `at`: one value with its sign, attributes, calls, filters and power.
fn operand_after(kinds: &[Kind], at: usize) -> usize {
    let kind = |at: usize| kinds.get(at).copied().unwrap_or(Kind::Border);
    let mut next = at + 1;
    loop {
        while kind(next) == Kind::Sign {
            next += 1;
        }
        // The value itself; texts side by side are one.
        next = if kind(next) == Kind::Open { after_group(kinds, next) } else { next + 1 };
        loop {
            next = match kind(next) {
                Kind::Open => after_group(kinds, next),
                Kind::Dot | Kind::Pipe => next + 2,
                Kind::Value => next + 1,
                _ => break,
            };
        }
        match kind(next) {
            Kind::Tight { power: true } => next += 1,
            _ => return next - 1,
        }
    }
}

/// The token after the bracket that closes the one at `open`.
fn after_group(kinds: &[Kind], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, kind) in kinds.iter().enumerate().skip(open) {
        match kind {
            Kind::Open => depth += 1,
            Kind::Close if depth == 1 => return at + 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    kinds.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_those_of_the_operator() {
        let f = FILTER;
        let cases = [
            ("{{ '%s' % x }} 100%", format!("{{{{ ('%s' ) | {f}( x) }}}} 100%")),
            ("{{ a + b.c[1] % -d.e('%')|f }}", format!("{{{{ a + (b.c[1] ) | {f}( -d.e('%')|f) }}}}")),
            ("{{ -a * b % c ~ d }}", format!("{{{{ (-a * b ) | {f}( c) ~ d }}}}")),
            ("{{ a % b % c }}", format!("{{{{ ((a ) | {f}( b) ) | {f}( c) }}}}")),
            ("{{ (a%b)%(c, d) }}", format!("{{{{ (((a) | {f}(b))) | {f}((c, d)) }}}}")),
            ("{% if not x[i % 2] == 1 and y %}", format!("{{% if not x[(i ) | {f}( 2)] == 1 and y %}}")),
            ("{% set t = 'a %d' 'b' % n ** 2 %}", format!("{{% set t = ('a %d' 'b' ) | {f}( n ** 2) %}}")),
            ("{% raw %}{{ a % b }}{% endraw %}{# a % b #}", "{% raw %}{{ a % b }}{% endraw %}{# a % b #}".to_owned()),
            ("{{ 'open % }}", "{{ 'open % }}".to_owned()),
        ];
        for (source, expected) in cases {
            assert_eq!(with_filters(source, SyntaxConfig::default()), expected, "{source}");
        }
    }
}
