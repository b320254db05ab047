//! The checkpoints in a run's folder. What counts is what they hold, not the number in their name.

use std::fs;
use std::path::{Path, PathBuf};

use super::{HASHES, STATE, State};
use crate::files::file_sha256;
use crate::{Error, Result};

/// Beginning of the name of a checkpoint's folder.
const PREFIX: &str = "checkpoint-";
/// What stands before that name while the folder is removed.
const REMOVED: &str = ".removed-";

/// What a run can go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// The undamaged checkpoint of the latest step, with its state.
    pub checkpoint: Option<(PathBuf, State)>,
    /// What is wrong with later ones, a part of a sentence each.
    pub damaged: Vec<String>,
}

/// The newest checkpoint in `output` whose files are all there and undamaged. Files that are not the checkpoint's own,
/// such as a file manager's, do no harm.
///
/// # Errors
/// When the folder cannot be read.
pub fn newest(output: &Path) -> Result<Newest> {
    let mut damaged = Vec::new();
    for (path, state) in list(output)? {
        match state.and_then(|state| intact(&path).map(|()| state)) {
            Ok(state) => return Ok(Newest { checkpoint: Some((path, state)), damaged }),
            Err(problem) => damaged.push(format!("{}: {problem}", path.display())),
        }
    }
    Ok(Newest { checkpoint: None, damaged })
}

/// The checkpoint that [`newest`] finds when that is of `step`, without comparing any digests again; none for step 0.
///
/// # Errors
/// When the folder cannot be read.
pub fn of_step(output: &Path, step: u64) -> Result<Option<(PathBuf, State)>> {
    if step == 0 {
        return Ok(None);
    }
    let undamaged = |(path, state): Listed| Some((path, state.ok()?));
    Ok(list(output)?.into_iter().filter_map(undamaged).find(|(_, state)| state.step == step))
}

/// Removes all but the newest `keep` of the checkpoints that the run has made up to `step`. Those of later steps, copies
/// under other names and other programs' checkpoints are left alone.
///
/// # Errors
/// When the disk refuses.
pub(super) fn remove_old(output: &Path, step: u64, keep: usize) -> Result<()> {
    clear_removed(output)?;
    let own = list(output)?.into_iter().filter(|(path, state)| {
        let number = state.as_ref().map(|state| state.step).ok();
        number.is_some_and(|number| number <= step && path.ends_with(format!("{PREFIX}{number}")))
    });
    for (path, _) in own.skip(keep.max(1)) {
        // Out of sight at once: a kill in the middle would leave what looks like a damaged checkpoint.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        fs::rename(&path, output.join(format!("{REMOVED}{name}"))).map_err(Error::path("remove", &path))?;
    }
    clear_removed(output)
}

/// Removes what is left of checkpoints whose removal was interrupted.
///
/// # Errors
/// When the disk refuses.
pub fn clear_removed(output: &Path) -> Result<()> {
    for entry in fs::read_dir(output).map_err(Error::path("read", output))? {
        let path = entry.map_err(Error::path("read", output))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(REMOVED)) {
            fs::remove_dir_all(&path).map_err(Error::path("remove", &path))?;
        }
    }
    Ok(())
}

/// A folder that is called a checkpoint, and its state or what is wrong with it.
type Listed = (PathBuf, Result<State, String>);

/// The folders in `output` that are called checkpoints, with their states or what is wrong with them; the latest step
/// first, and those without a state before all others.
fn list(output: &Path) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(output).map_err(Error::path("read", output))? {
        let path = entry.map_err(Error::path("read", output))?.path();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if named && path.is_dir() {
            let state = state(&path);
            found.push((path, state));
        }
    }
    let step = |state: &Result<State, String>| state.as_ref().map_or(u64::MAX, |state| state.step);
    found.sort_by(|(a, at), (b, bt)| step(bt).cmp(&step(at)).then_with(|| a.cmp(b)));
    Ok(found)
}

fn state(path: &Path) -> Result<State, String> {
    let read = |name: &str| fs::read(path.join(name)).map_err(|_| format!("{name} is missing"));
    read(HASHES)?;
    serde_json::from_slice(&read(STATE)?).map_err(|_| format!("{STATE} is damaged"))
}

/// Compares every file with its digest.
fn intact(path: &Path) -> Result<(), String> {
    let digests: Vec<(String, String)> = fs::read(path.join(HASHES))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| format!("{HASHES} is damaged"))?;
    for (name, expected) in digests {
        match file_sha256(&path.join(&name)) {
            Ok(digest) if digest == expected => {}
            Ok(_) => return Err(format!("{name} is not as it was saved")),
            Err(_) => return Err(format!("{name} is missing or cannot be read")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint of `step` in a folder of that name.
    fn checkpoint(output: &Path, name: &str, step: u64) -> PathBuf {
        let path = output.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join(STATE), format!("{{\"step\": {step}, \"tokens\": 1}}")).unwrap();
        fs::write(path.join("weights"), [1, 2, 3]).unwrap();
        let digests: Vec<(&str, String)> =
            [STATE, "weights"].map(|name| (name, file_sha256(&path.join(name)).unwrap())).into();
        fs::write(path.join(HASHES), serde_json::to_string(&digests).unwrap()).unwrap();
        path
    }

    fn names(output: &Path) -> Vec<String> {
        let entries = fs::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_is_the_one_of_the_latest_step_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path();
        assert_eq!(newest(output).unwrap(), Newest { checkpoint: None, damaged: vec![] });
        checkpoint(output, "checkpoint-9", 9);
        checkpoint(output, "checkpoint-100", 6);
        let newest = newest(output).unwrap();
        assert_eq!(newest.checkpoint.unwrap().1.step, 9);
        assert_eq!(of_step(output, 6).unwrap().unwrap().0, output.join("checkpoint-100"));
        assert_eq!((of_step(output, 7).unwrap(), of_step(output, 0).unwrap()), (None, None));
    }

    #[test]
    fn what_an_interrupted_removal_left_goes_with_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path();
        for step in [2, 4] {
            checkpoint(output, &format!("checkpoint-{step}"), step);
        }
        let left = output.join(".removed-checkpoint-2");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("weights"), "").unwrap();
        remove_old(output, 4, 1).unwrap();
        assert_eq!(names(output), ["checkpoint-4"]);
    }

    #[test]
    fn stray_files_do_no_harm_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path();
        let (old, new) = (checkpoint(output, "checkpoint-2", 2), checkpoint(output, "checkpoint-4", 4));
        fs::write(new.join(".DS_Store"), "").unwrap();
        fs::create_dir(new.join(".ipynb_checkpoints")).unwrap();
        fs::write(output.join("checkpoint-7"), "a file").unwrap();
        assert_eq!(newest(output).unwrap().checkpoint.unwrap().0, new);
        let damages: [(&str, Option<&[u8]>, &str); 4] = [
            ("weights", Some(&[1, 2]), "weights is not as it was saved"),
            ("weights", None, "weights is missing"),
            (HASHES, None, "hashes.json is missing"),
            (STATE, Some(b"{}"), "trainer_state.json is damaged"),
        ];
        for (name, bytes, words) in damages {
            let path = new.join(name);
            let before = fs::read(&path).unwrap();
            bytes.map_or_else(|| fs::remove_file(&path), |bytes| fs::write(&path, bytes)).unwrap();
            let found = newest(output).unwrap();
            assert_eq!(found.checkpoint.unwrap().0, old);
            assert!(found.damaged.len() == 1 && found.damaged[0].contains(words), "{:?}", found.damaged);
            fs::write(&path, before).unwrap();
        }
    }

    #[test]
    fn only_the_runs_own_older_ones_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path();
        for step in [2, 4, 6, 8] {
            checkpoint(output, &format!("checkpoint-{step}"), step);
        }
        checkpoint(output, "checkpoint-2-copy", 2);
        fs::create_dir(output.join("checkpoint-1")).unwrap();
        remove_old(output, 6, 1).unwrap();
        assert_eq!(names(output), ["checkpoint-1", "checkpoint-2-copy", "checkpoint-6", "checkpoint-8"]);
    }
}
