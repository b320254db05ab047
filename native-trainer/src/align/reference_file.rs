//! The reference's log-probabilities of the pairs of a run, in its checkpoints.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::write_file;
use crate::{Error, Result};

/// The file.
const FILE: &str = "reference_log_probs.json";

/// The sums of the log-probabilities of both answers of each pair of a data set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReferenceSums {
    /// The data set's digest.
    pub digest: String,
    /// The sums, `[2 · pairs]`.
    pub sums: Vec<f64>,
}

/// [`ReferenceSums`] in the file: numbers as their bits, since those that were read from decimal digits might be others.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    digest: String,
    bits: Vec<u64>,
}

/// Writes the sums of several data sets.
///
/// # Errors
/// When the disk refuses.
pub(super) fn write(folder: &Path, sets: &[ReferenceSums]) -> Result<()> {
    let saved = |set: &ReferenceSums| Saved {
        digest: set.digest.clone(),
        bits: set.sums.iter().map(|sum| sum.to_bits()).collect(),
    };
    let saved: Vec<Saved> = sets.iter().map(saved).collect();
    let text = serde_json::to_string(&saved).map_err(|error| Error::Request(error.to_string()))?;
    write_file(&folder.join(FILE), &text)
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// When the file is not there or damaged.
pub(super) fn read(folder: &Path) -> Result<Vec<ReferenceSums>> {
    let path = folder.join(FILE);
    let bytes = fs::read(&path).map_err(Error::path("read", &path))?;
    let saved: Result<Vec<Saved>, _> = serde_json::from_slice(&bytes);
    let saved = saved.map_err(|error| Error::Request(format!("{}: {error}", path.display())))?;
    let sums =
        |Saved { digest, bits }: Saved| ReferenceSums { digest, sums: bits.into_iter().map(f64::from_bits).collect() };
    Ok(saved.into_iter().map(sums).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_come_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let sums = [ReferenceSums { digest: "d".to_string(), sums: vec![-0.1, -1.0 / 3.0] }];
        write(folder.path(), &sums).unwrap();
        assert_eq!(read(folder.path()).unwrap(), sums);
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains(FILE));
    }
}
