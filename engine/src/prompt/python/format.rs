//! `%` and `str.format`.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::charge;
use super::spelling::{constant, differing, repr};

/// `text % value`.
pub(super) fn by_percent(state: &State, text: &str, value: &Value) -> Result<String, Error> {
    let mut items: Vec<Value> = match value.downcast_object_ref::<Tuple>() {
        Some(tuple) => tuple.iter().cloned().collect(),
        None => vec![value.clone()],
    };
    charge_fields(state, text, '%', &items)?;
    let text = with_texts(state, text, &mut items)?;
    format(FormatStyle::Printf, &text, &items.iter().map(spelled).collect::<Vec<_>>())
}

/// `text.format(arguments)`.
pub(super) fn by_fields(state: &State, text: &str, arguments: &[Value]) -> Result<String, Error> {
    charge_fields(state, text, '{', arguments)?;
    let mut arguments = arguments.to_vec();
    let text = Fields::new(state, &mut arguments)?.rewrite(text)?;
    format(FormatStyle::StrFormat, &text, &arguments.iter().map(spelled).collect::<Vec<_>>())
}

fn spelled(value: &Value) -> Value {
    match constant(value).filter(|_| value.kind() == ValueKind::None) {
        Some(none) => Value::from(none),
        None => value.clone(),
    }
}

/// Uses the fuel for the most that the fields of `text` can come to: each as long as the longest argument, and the
/// widths that are written out.
fn charge_fields(state: &State, text: &str, field: char, arguments: &[Value]) -> Result<(), Error> {
    charge(state, text.len())?;
    let widths = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let width = widths.map(|digits| digits.parse().unwrap_or(usize::MAX)).fold(0, usize::saturating_add);
    let longest = arguments.iter().map(|value| value.as_str().map_or(64, str::len)).max().unwrap_or(0);
    charge(state, width.saturating_add(text.matches(field).count().saturating_mul(longest)))
}

/// `text` with `%s` for every `%r`, whose value in `items` becomes the text that `repr` gives. Lists and mappings under a `%s`
/// become Python's text, too.
fn with_texts(state: &State, text: &str, items: &mut [Value]) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    let mut named: Vec<(String, Value)> = Vec::new();
    let mut place = 0;
    let mut rest = text;
    while let Some((before, field)) = rest.split_once('%') {
        let (key, field) = match field.strip_prefix('(').and_then(|field| field.split_once(')')) {
            Some((key, field)) => (Some(key), field),
            None => (None, field),
        };
        let options = field.find(|c: char| !"#0123456789- +.*hlL".contains(c)).unwrap_or(field.len());
        let (options, field) = field.split_at(options);
        let mut after = field.chars();
        let kind = after.next();
        rest = after.as_str();
        out.extend([before, "%"]);
        place += options.matches('*').count();
        match (key, kind) {
            (Some(key), Some('r')) => {
                let item = items.first().map(|item| item.get_item(&Value::from(key))).transpose()?.unwrap_or_default();
                let name = format!("{key}!r");
                out.push_str(&format!("({name}){options}s"));
                named.push((name, repr(state, &item)?.into()));
                continue;
            }
            (Some(key), _) => out.push_str(&format!("({key})")),
            (None, Some('r')) => {
                if let Some(item) = items.get_mut(place) {
                    *item = repr(state, item)?.into();
                }
            }
            (None, Some('s')) => {
                if let Some(item) = items.get_mut(place).filter(|item| item.kind() != ValueKind::Bool)
                    && let Some(text) = differing(state, item)?
                {
                    *item = text.into();
                }
            }
            (None, _) => {}
        }
        place += usize::from(key.is_none() && kind != Some('%'));
        out.push_str(options);
        out.extend(kind.map(|kind| if kind == 'r' { 's' } else { kind }));
    }
    out += rest;
    if let Some(mapping) = items.first_mut().filter(|_| !named.is_empty()) {
        let mut pairs = Vec::new();
        for key in mapping.try_iter()? {
            pairs.push((key.to_string(), mapping.get_item(&key)?));
        }
        *mapping = Value::from_pairs(pairs.into_iter().chain(named));
    }
    Ok(out)
}

/// The fields of a text for `str.format`, and what they name.
struct Fields<'a> {
    state: &'a State<'a, 'a>,
    arguments: &'a mut Vec<Value>,
    /// How many arguments have no name.
    places: usize,
    by_name: Option<Kwargs>,
    /// The place of the next field that has none written.
    next: usize,
}

impl<'a> Fields<'a> {
    fn new(state: &'a State<'a, 'a>, arguments: &'a mut Vec<Value>) -> Result<Self, Error> {
        let named = arguments.last().filter(|last| last.is_kwargs()).cloned();
        let places = arguments.len() - usize::from(named.is_some());
        let by_name = named.map(Kwargs::try_from).transpose()?;
        Ok(Self { state, arguments, places, by_name, next: 0 })
    }

    /// `text` with a further argument in place of every field that minijinja does not know: `!r`, `!s` and `%`.
    fn rewrite(mut self, text: &str) -> Result<String, Error> {
        if !["!r", "!s", "%"].iter().any(|mark| text.contains(mark)) {
            return Ok(text.to_owned());
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            out.push_str(before);
            let doubled = ["{{", "}}"].into_iter().find(|doubled| brace.starts_with(doubled));
            let inside = brace.strip_prefix('{').filter(|_| doubled.is_none());
            let Some((field, after)) = inside.and_then(split_field) else {
                let length = doubled.map_or(1, str::len);
                out.push_str(&brace[..length]);
                rest = &brace[length..];
                continue;
            };
            out.push_str(&self.field(field)?);
            rest = after;
        }
        Ok(out + rest)
    }

    /// What to write for `{field}`.
    fn field(&mut self, field: &str) -> Result<String, Error> {
        let (head, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = head.split_once('!').unwrap_or((head, ""));
        let mut name = name.to_owned();
        // Fields with a place and without cannot be mixed.
        if name.is_empty() || name.starts_with(['.', '[']) {
            name.insert_str(0, &self.next.to_string());
            self.next += 1;
        }
        let (text, spec) = match (conversion, spec.strip_suffix('%')) {
            ("r", _) => (repr(self.state, &self.value(&name)?)?, spec.to_owned()),
            ("s", _) => {
                let value = self.value(&name)?;
                (differing(self.state, &value)?.unwrap_or_else(|| value.to_string()), spec.to_owned())
            }
            ("", Some(spec)) => percentage(&self.value(&name)?, spec)?,
            _ => {
                let colon = if field.contains(':') { ":" } else { "" };
                let mark = if head.contains('!') { "!" } else { "" };
                return Ok(format!("{{{name}{mark}{conversion}{colon}{spec}}}"));
            }
        };
        charge(self.state, text.len())?;
        let place = self.places;
        self.arguments.insert(place, text.into());
        self.places += 1;
        let colon = if spec.is_empty() { "" } else { ":" };
        Ok(format!("{{{place}{colon}{spec}}}"))
    }

    /// What a field's name stands for: an argument, and what is in it.
    fn value(&self, name: &str) -> Result<Value, Error> {
        let (first, mut path) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
        let mut value = match (first.parse::<usize>(), &self.by_name) {
            (Ok(place), _) => self.arguments.get(place).filter(|_| place < self.places).cloned().unwrap_or_default(),
            (Err(_), Some(by_name)) => by_name.peek(first)?,
            (Err(_), None) => Value::UNDEFINED,
        };
        while let Some(mark) = path.chars().next() {
            let inside = &path[1..];
            if mark == '[' {
                let (key, after) = inside.split_once(']').unwrap_or((inside, ""));
                let key = key.parse::<i64>().map_or_else(|_| Value::from(key), Value::from);
                (value, path) = (value.get_item(&key)?, after);
            } else {
                let (attribute, after) = inside.split_at(inside.find(['.', '[']).unwrap_or(inside.len()));
                (value, path) = (value.get_attr(attribute)?, after);
            }
        }
        Ok(value)
    }
}

/// A field up to its closing bracket, and what follows; `None` where a field is in a field.
fn split_field(text: &str) -> Option<(&str, &str)> {
    text.split_once('}').filter(|(field, _)| !field.contains('{'))
}

/// A number in per cent, and what is left of the specification (without its `%`) for that text.
fn percentage(value: &Value, spec: &str) -> Result<(String, String), Error> {
    let of = |spec: &str| {
        let number = f64::try_from(value.clone())? * 100.0;
        Ok::<_, Error>(format(FormatStyle::StrFormat, &format!("{{:{spec}f}}"), &[number.into()])? + "%")
    };
    let is_align = |c: char| "<>=^".contains(c);
    let aligned = match spec.char_indices().nth(1) {
        Some((at, c)) if is_align(c) => at + 1,
        _ => usize::from(spec.starts_with(is_align)),
    };
    let (align, rest) = spec.split_at(aligned);
    let (signs, rest) = rest.split_at(rest.find(|c: char| !"+- #".contains(c)).unwrap_or(rest.len()));
    let (width, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    if align.ends_with(['<', '^']) {
        return Ok((of(&format!("{signs}{rest}"))?, format!("{align}{width}")));
    }
    // The sign takes one place of the width.
    let zero = if width.starts_with('0') { "0" } else { "" };
    let width = width.parse::<usize>().ok().and_then(|width| width.checked_sub(1)).filter(|width| *width > 0);
    let width = width.map_or_else(String::new, |width| format!("{zero}{width}"));
    Ok((of(&format!("{align}{signs}{width}{rest}"))?, String::new()))
}
