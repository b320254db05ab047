//! transformers' `tojson`: Python's `json.dumps`. Jinja's own filter escapes for HTML.

use std::io::{self, Write};

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::Value as Json;
use serde_json::ser::{Formatter, Serializer};

use super::arguments::Arguments;
use super::{BYTES_PER_FUEL, charge};

/// `value | tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn to_json(state: &State, value: &Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let arguments = Arguments::bind(&arguments.into_values(), names, 0)?;
    let indent: Option<Value> = arguments.get(1)?;
    let indent = match indent {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let spaces = usize::try_from(indent).unwrap_or(0);
                charge(state, spaces)?;
                " ".repeat(spaces)
            }
        }),
    };
    let separators: Option<Value> = arguments.get(2)?;
    let separators = separators.map(|pair| pair.try_iter().map(|texts| texts.map(|text| text.to_string()).collect()));
    let separators: Option<Vec<String>> = separators.transpose()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are two texts")),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let ascii = arguments.get(0)?.unwrap_or(false);
    let style = Style { indent, item, key, ascii, depth: 0, filled: false };
    let mut bytes = Charged { state, bytes: Vec::new(), owed: 0 };
    let written = if arguments.get(3)?.unwrap_or(false) {
        // Counts the work of a copy before it is made.
        value.serialize(&mut Serializer::new(&mut Charged { state, bytes: Vec::new(), owed: 0 })).and_then(|()| {
            let mut copy = serde_json::to_value(value)?;
            sort(&mut copy);
            copy.serialize(&mut Serializer::with_formatter(&mut bytes, style))
        })
    } else {
        value.serialize(&mut Serializer::with_formatter(&mut bytes, style))
    };
    let failed = |problem: String| Error::new(ErrorKind::BadSerialization, problem);
    // Fails here too when the writer ran out of fuel.
    charge(state, 0)?;
    written.map_err(|e| failed(e.to_string()))?;
    String::from_utf8(bytes.bytes).map(Value::from).map_err(|e| failed(e.to_string()))
}

fn sort(value: &mut Json) {
    match value {
        Json::Object(fields) => {
            fields.sort_keys();
            fields.values_mut().for_each(sort);
        }
        Json::Array(items) => items.iter_mut().for_each(sort),
        _ => {}
    }
}

/// A buffer that uses fuel as it is written.
struct Charged<'a> {
    state: &'a State<'a, 'a>,
    bytes: Vec<u8>,
    /// Bytes that have not used a whole unit of fuel yet.
    owed: usize,
}

impl Write for Charged<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        /// The least that a write costs, however short it is.
        const PIECE: usize = 16;
        self.owed += PIECE + bytes.len();
        charge(self.state, self.owed).map_err(io::Error::other)?;
        self.owed %= BYTES_PER_FUEL;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How Python lays JSON out.
struct Style {
    /// A line for every item, so much further in for every level.
    indent: Option<String>,
    /// Between items.
    item: String,
    /// After a key.
    key: String,
    /// Other characters are written as escapes.
    ascii: bool,
    depth: usize,
    /// Whether the present list or object has an item.
    filled: bool,
}

impl Style {
    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(writer)?;
        }
        writer.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.line(writer)
    }

    fn line<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(indent.as_bytes()))
    }
}

impl Formatter for Style {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            if matches!(c, ' '..='~') {
                writer.write_all(&[c as u8])?;
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}
