//! Standard input and error: notes and sizes for people.

use std::fmt::Display;
use std::io::{self, Write};

use crate::{Error, Result};

/// A line on stderr. A closed stderr is no reason to fail.
pub(super) fn note(message: impl Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// The whole of standard input, as text.
pub(super) fn read_stdin() -> Result<String> {
    io::read_to_string(io::stdin()).map_err(|error| Error::Request(format!("cannot read standard input: {error}")))
}

/// A number of bytes for people, in powers of 1024.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count with thousands separated.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(98_362_432), "93.8 MiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(100), "100");
        assert_eq!(grouped(134_515_008), "134,515,008");
    }
}
