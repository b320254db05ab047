//! Reads the part of Python's pickle format that a state dict needs. Nothing is imported, called or executed.
//! Opcodes: CPython `Lib/pickle.py`. PyTorch writes protocol 2; protocols up to 5 are read.

use std::collections::HashMap;

/// Why a pickle was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes end before the pickle does.
    End,
    /// It is damaged, or refers to something that is refused.
    Refused(String),
}

/// A value, by its index in [`Pickle::values`].
pub(super) type Id = usize;

/// What a pickle can hold. Values refer to each other by [`Id`], so that dropping deeply nested ones cannot overflow the
/// stack.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A number whose value is not needed: a float, or an integer of more than 64 bits.
    Number,
    Text(String),
    /// Raw bytes, which descriptions of tensors do not use.
    Bytes,
    /// A name that Python would import, as `module.name`.
    Global(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// What a persistent id stands for.
    Persistent(Id),
    /// A tensor: the arguments of `torch._utils._rebuild_tensor_v2`.
    Tensor(Vec<Id>),
}

/// A parsed pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub values: Vec<Value>,
    /// The value it stands for.
    pub top: Id,
    /// Its length in bytes.
    pub bytes: usize,
}

/// Names that a state dict may refer to; any other is refused.
const REBUILD_TENSOR: &str = "torch._utils._rebuild_tensor_v2";
const REBUILD_PARAMETER: &str = "torch._utils._rebuild_parameter";
/// What PyTorch calls for tensors of types that came after 2.0, such as float8.
const REBUILD_OTHER: &str = "torch._utils._rebuild_tensor_v3";
const ORDERED_DICT: &str = "collections.OrderedDict";

fn is_known(name: &str) -> bool {
    let storage = name.strip_prefix("torch.").and_then(|name| name.strip_suffix("Storage"));
    [REBUILD_TENSOR, REBUILD_PARAMETER, ORDERED_DICT].contains(&name) || storage.is_some_and(|s| !s.contains('.'))
}

/// Parses the pickle at the start of `bytes`.
///
/// # Errors
/// [`Fault::End`] when it continues beyond them; [`Fault::Refused`] when it is damaged or refers to anything but tensors.
pub(super) fn parse(bytes: &[u8]) -> Result<Pickle, Fault> {
    let mut machine =
        Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    let top = machine.run()?;
    Ok(Pickle { values: machine.values, top, bytes: machine.at })
}

fn refused<T>(problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Refused(problem.into()))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, Fault> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                // Protocol and frame length need no action.
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'N' => self.push(Value::None),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'K' => self.integer(1)?,
                b'M' => self.integer(2)?,
                b'J' => {
                    let value = self.number(4)? as u32;
                    self.push(Value::Int(i64::from(value.cast_signed())));
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Number);
                }
                b'X' => self.text(4)?,
                0x8c => self.text(1)?,
                0x8d => self.text(8)?,
                b'U' | b'C' => self.raw(1)?,
                b'T' | b'B' => self.raw(4)?,
                b'c' => {
                    let name = format!("{}.{}", self.line()?, self.line()?);
                    self.global(name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Some(Value::Text(module)), Some(Value::Text(name))) =
                        (self.values.get(module), self.values.get(name))
                    else {
                        return refused("a name in it is not text");
                    };
                    self.global(format!("{module}.{name}"))?;
                }
                b'q' => self.memoize(1)?,
                b'r' => self.memoize(4)?,
                0x94 => {
                    let top = self.top()?;
                    self.memo.insert(self.memo.len() as u64, top);
                }
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,
                b')' => self.push(Value::Tuple(Vec::new())),
                b'}' => self.push(Value::Dict(Vec::new())),
                b']' => self.push(Value::List(Vec::new())),
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let items = self.marked()?;
                    self.push(Value::Tuple(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.marked()?;
                    self.append(items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(vec![key, value])?;
                }
                b'u' => {
                    let items = self.marked()?;
                    self.set_items(items)?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.push(Value::Persistent(id));
                }
                b'R' => self.reduce()?,
                b'b' => self.build()?,
                other => return refused(format!("it uses the pickle operation 0x{other:02x}, which no tensor needs")),
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(count).ok_or(Fault::End)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Fault::End)?;
        self.at = end;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.take(1).map(|bytes| bytes.iter().fold(0, |_, byte| *byte))
    }

    /// An unsigned little-endian number of `size` bytes.
    fn number(&mut self, size: usize) -> Result<u64, Fault> {
        Ok(self.take(size)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn counted(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        let count = self.number(size)?;
        self.take(usize::try_from(count).map_err(|_| Fault::End)?)
    }

    fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(Fault::End)?;
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).or_else(|_| refused("a name in it is not text"))
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        match self.stack.pop() {
            Some(id) if self.marks.last().is_none_or(|mark| self.stack.len() >= *mark) => Ok(id),
            _ => refused("its stack runs empty"),
        }
    }

    fn top(&self) -> Result<Id, Fault> {
        self.stack.last().copied().map_or_else(|| refused("its stack runs empty"), Ok)
    }

    /// What was pushed since the last mark.
    fn marked(&mut self) -> Result<Vec<Id>, Fault> {
        match self.marks.pop().filter(|mark| *mark <= self.stack.len()) {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => refused("it closes a group that it did not open"),
        }
    }

    fn integer(&mut self, size: usize) -> Result<(), Fault> {
        let value = self.number(size)?;
        self.push(Value::Int(value.cast_signed()));
        Ok(())
    }

    /// A number in two's complement, of as many bytes as it needs.
    fn long(&mut self) -> Result<(), Fault> {
        let bytes = self.counted(1)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let value = if bytes.len() > 8 {
            Value::Number
        } else {
            let fill = if negative { -1 } else { 0 };
            Value::Int(bytes.iter().rev().fold(fill, |value, byte| value << 8 | i64::from(*byte)))
        };
        self.push(value);
        Ok(())
    }

    fn text(&mut self, size: usize) -> Result<(), Fault> {
        let bytes = self.counted(size)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Value::Text(text.to_string())),
            Err(_) => return refused("a text in it is not UTF-8"),
        }
        Ok(())
    }

    fn raw(&mut self, size: usize) -> Result<(), Fault> {
        self.counted(size)?;
        self.push(Value::Bytes);
        Ok(())
    }

    fn global(&mut self, name: String) -> Result<(), Fault> {
        if name == REBUILD_OTHER {
            return refused(
                "it holds tensors of a type that Paddock does not read, such as float8; save them in bf16 or f16",
            );
        }
        if !is_known(&name) {
            return refused(format!("it asks to run {name:?}, which no tensor needs; nothing was run"));
        }
        self.push(Value::Global(name));
        Ok(())
    }

    fn memoize(&mut self, size: usize) -> Result<(), Fault> {
        let key = self.number(size)?;
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, size: usize) -> Result<(), Fault> {
        let key = self.number(size)?;
        match self.memo.get(&key) {
            Some(id) => self.stack.push(*id),
            None => return refused("it refers to a value that it does not hold"),
        }
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Result<(), Fault> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), Fault> {
        let list = self.top()?;
        match self.values.get_mut(list) {
            Some(Value::List(list)) => list.extend(items),
            _ => return refused("it appends to something that is not a list"),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Id>) -> Result<(), Fault> {
        let dict = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match self.values.get_mut(dict) {
            Some(Value::Dict(dict)) if rest.is_empty() => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            _ => return refused("it sets keys of something that is not a dictionary"),
        }
        Ok(())
    }

    /// "Calls" one of the three functions that a state dict names.
    fn reduce(&mut self) -> Result<(), Fault> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Some(Value::Tuple(arguments)) = self.values.get(arguments).cloned() else {
            return refused("it calls a function without arguments");
        };
        let Some(Value::Global(function)) = self.values.get(function) else {
            return refused("it calls something that is not a function");
        };
        match (function.as_str(), arguments.as_slice()) {
            (ORDERED_DICT, []) => self.push(Value::Dict(Vec::new())),
            (REBUILD_TENSOR, [_, _, _, _, ..]) => self.push(Value::Tensor(arguments)),
            (REBUILD_PARAMETER, [tensor, ..]) => match self.values.get(*tensor) {
                Some(Value::Tensor(_)) => self.stack.push(*tensor),
                _ => return refused("a parameter in it is not a tensor"),
            },
            (other, arguments) => {
                return refused(format!("it calls {other} with {} arguments, as no tensor does", arguments.len()));
            }
        }
        Ok(())
    }

    /// Attributes of a dictionary: `_metadata`, which versions modules and says nothing of tensors.
    fn build(&mut self) -> Result<(), Fault> {
        self.pop()?;
        let object = self.top()?;
        match self.values.get(object) {
            Some(Value::Dict(_)) => Ok(()),
            _ => refused("it sets attributes of something that is not a dictionary"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(bytes: &[u8]) -> String {
        match parse(bytes) {
            Err(Fault::Refused(problem)) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_dictionary_is_read() {
        let pickle = parse(b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x07X\x01\x00\x00\x00bJ\xff\xff\xff\xffu.rest").unwrap();
        assert_eq!(pickle.bytes, 27);
        let Value::Dict(pairs) = &pickle.values[pickle.top] else { panic!("{pickle:?}") };
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (&pickle.values[*k], &pickle.values[*v])).collect();
        assert_eq!(pairs[0], (&Value::Text("a".into()), &Value::Int(7)));
        assert_eq!(pairs[1], (&Value::Text("b".into()), &Value::Int(-1)));
    }

    #[test]
    fn a_system_call_is_refused_by_name() {
        for pickle in
            [&b"cposix\nsystem\n(X\x02\x00\x00\x00lstR."[..], b"\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R."]
        {
            let problem = problem(pickle);
            assert!(problem.contains("posix.system") && problem.contains("nothing was run"), "{problem}");
        }
        for name in ["torch.storage.EvilStorage", "torch.load", "builtins.eval", "torch._utils._rebuild_tensor"] {
            assert!(!is_known(name), "{name}");
        }
    }

    #[test]
    fn tensors_of_newer_types_are_named() {
        let problem = problem(b"ctorch._utils\n_rebuild_tensor_v3\n.");
        assert!(problem.contains("float8") && problem.contains("bf16"), "{problem}");
    }

    #[test]
    fn operations_that_make_objects_are_refused() {
        for operation in [b'i', b'o', 0x81, 0x92, 0x82, 0x83, 0x84, b'P', b'I', 0x97, 0x98] {
            assert!(problem(&[b'N', b'N', operation, b'.']).contains("operation"), "{operation:#x}");
        }
    }

    #[test]
    fn every_truncation_is_an_end() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x07u.";
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]).unwrap_err(), Fault::End, "at {length}");
        }
    }

    #[test]
    fn a_million_nested_tuples_neither_overflow_nor_grow() {
        let mut bytes = vec![b')'];
        bytes.resize(1 << 20, 0x85);
        bytes.push(b'.');
        assert_eq!(parse(&bytes).unwrap().values.len(), 1 << 20);
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in
            [&b"."[..], b"0.", b"t.", b"(0.", b"u.", b"h\x00.", b"NR.", b"NNR.", b"Nb.", b"NNb.", b"NNa.", b"q\x00."]
        {
            problem(bytes);
        }
        assert_eq!(parse(b"X\xff\xff\xff\xff.").unwrap_err(), Fault::End);
    }
}
