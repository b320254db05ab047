//! What a rank says of itself when it comes to rank 0, and whether it fits.

use std::collections::BTreeMap;
use std::io::{Error, Read, Result, Write};

use serde::{Deserialize, Serialize};

use super::RankAddress;

/// Begins every connection, in both directions, so that other programs at a port are noticed.
pub(super) const MAGIC: [u8; 8] = *b"paddock2";
/// Longest text of a greeting or a verdict.
const LIMIT: u64 = 1 << 20;
/// How many differences a sentence names.
const NAMED: usize = 3;

/// What all ranks of a run must have alike: values by their names, such as "batch-size", and digests of what they read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Identity {
    /// Values that a sentence can show.
    pub values: BTreeMap<String, String>,
    /// Digests of the model, the data, …
    pub digests: BTreeMap<String, String>,
}

/// A rank's words to rank 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeting {
    /// What tells its run from others on the same machines.
    pub run: String,
    pub rank: usize,
    pub world_size: usize,
    identity: Identity,
}

impl Greeting {
    pub fn new(address: &RankAddress, identity: &Identity) -> Self {
        Self {
            run: address.run.clone(),
            rank: address.rank,
            world_size: address.world_size,
            identity: identity.clone(),
        }
    }

    /// Why this rank cannot train with `first`, rank 0; `None` when it can.
    pub fn refusal(&self, first: &Self) -> Option<String> {
        let rank = self.rank;
        if self.world_size != first.world_size {
            return Some(format!(
                "rank {rank} was told of {} ranks and rank 0 of {}; start all ranks with the same number",
                self.world_size, first.world_size
            ));
        }
        let digests = differences(&self.identity.digests, &first.identity.digests);
        if let Some((name, ..)) = digests.first() {
            return Some(format!("rank {rank} has another {name} than rank 0; give every rank the same files"));
        }
        let values = differences(&self.identity.values, &first.identity.values);
        if values.is_empty() {
            return None;
        }
        let own: Vec<String> = values.iter().take(NAMED).map(|(name, own, _)| format!("{name} {own}")).collect();
        let theirs: Vec<String> =
            values.iter().take(NAMED).map(|(name, _, theirs)| format!("{name} {theirs}")).collect();
        let more = if values.len() > NAMED { " and more that differs" } else { "" };
        Some(format!(
            "rank {rank} has {}, and rank 0 has {}{more}; start all ranks with the same settings",
            own.join(", "),
            theirs.join(", ")
        ))
    }
}

/// Names with their values in both; "none" where one lacks the name.
fn differences<'a>(
    own: &'a BTreeMap<String, String>,
    theirs: &'a BTreeMap<String, String>,
) -> Vec<(&'a str, &'a str, &'a str)> {
    let mut names: Vec<&String> = own.keys().chain(theirs.keys()).collect();
    names.sort();
    names.dedup();
    let value = |of: &'a BTreeMap<String, String>, name: &String| of.get(name).map_or("none", String::as_str);
    let all = names.into_iter().map(|name| (name.as_str(), value(own, name), value(theirs, name)));
    all.filter(|(_, own, theirs)| own != theirs).collect()
}

/// Writes a text after its length.
pub(super) fn write_text(stream: &mut impl Write, text: &str) -> Result<()> {
    stream.write_all(&(text.len() as u64).to_le_bytes())?;
    stream.write_all(text.as_bytes())
}

/// Reads a text that [`write_text`] wrote.
pub(super) fn read_text(stream: &mut impl Read) -> Result<String> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > LIMIT {
        return Err(Error::other("the greeting is too long"));
    }
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text)?;
    String::from_utf8(text).map_err(Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(rank: usize, world_size: usize, values: &[(&str, &str)], model: &str) -> Greeting {
        let of =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let identity = Identity { values: of(values), digests: of(&[("model", model)]) };
        Greeting { run: String::new(), rank, world_size, identity }
    }

    #[test]
    fn what_differs_is_named() {
        let first = greeting(0, 2, &[("batch-size", "4"), ("zero", "2")], "a");
        assert_eq!(greeting(1, 2, &[("batch-size", "4"), ("zero", "2")], "a").refusal(&first), None);
        for (other, words) in [
            (greeting(1, 4, &[], "a"), "rank 1 was told of 4 ranks and rank 0 of 2"),
            (greeting(1, 2, &[], "b"), "rank 1 has another model than rank 0"),
            (
                greeting(1, 2, &[("batch-size", "8"), ("zero", "3")], "a"),
                "rank 1 has batch-size 8, zero 3, and rank 0 has batch-size 4, zero 2;",
            ),
            (greeting(1, 2, &[("zero", "2")], "a"), "rank 1 has batch-size none, and rank 0 has batch-size 4;"),
        ] {
            let refusal = other.refusal(&first).unwrap();
            assert!(refusal.starts_with(words), "{refusal}");
        }
    }

    #[test]
    fn a_text_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        write_text(&mut bytes, "grün").unwrap();
        assert_eq!(read_text(&mut bytes.as_slice()).unwrap(), "grün");
        assert!(read_text(&mut [0xff; 64].as_slice()).is_err(), "longer than any greeting");
        assert!(read_text(&mut &bytes[..9]).is_err(), "cut short");
    }
}
