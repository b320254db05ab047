//! Where a run begins: in a new folder, or after a checkpoint. Nothing that is there already is replaced unasked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::files::{ADAPTER_WEIGHTS, remove_partial, write_file};
use crate::run::checkpoint::{self, Newest, Origin, State};
use crate::run::{MetricsFile, Settings, SettingsFile, changes};
use crate::{Error, Result};

/// The file in a run's folder that holds its settings; `--config` reads it.
pub const SETTINGS: &str = "settings.toml";
/// Files by which a folder is known to hold a model's weights.
const WEIGHTS: [&str; 3] = ["model.safetensors", "model.safetensors.index.json", ADAPTER_WEIGHTS];

/// Whether and how a run continues another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resume {
    /// Go on from the newest checkpoint in the run's folder.
    pub resume: bool,
    /// Even where settings or data are not those of the run so far.
    pub allow_changes: bool,
}

/// Where a run begins.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// The checkpoint that it continues, with its state.
    pub resumed: Option<(PathBuf, State)>,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl Start {
    /// Steps that are done.
    pub fn step(&self) -> u64 {
        self.resumed.as_ref().map_or(0, |(_, state)| state.step)
    }

    /// Looks at the run's folder and changes nothing.
    ///
    /// # Errors
    /// When something is in the way, or there is nothing undamaged to go on from.
    pub fn find(output: &Path, resume: bool) -> Result<Self> {
        let shown = output.display();
        let refuse = |problem: String| Err(Error::Request(problem));
        if !output.exists() {
            let note = resume.then(|| format!("{shown} does not exist yet: the run begins with step 1"));
            return Ok(Self { resumed: None, notes: note.into_iter().collect() });
        }
        if !output.is_dir() {
            return refuse(format!("{shown} is a file; name a folder for the output"));
        }
        let Newest { checkpoint, damaged } = checkpoint::newest(output)?;
        let model = in_the_way(output)?;
        if !resume {
            return match model {
                _ if checkpoint.is_some() || !damaged.is_empty() || output.join(MetricsFile::NAME).exists() => {
                    refuse(format!("{shown} holds a run; go on with --resume, or name another output"))
                }
                Some(name) => {
                    refuse(format!("{shown} holds a model ({name}), which is not replaced; name another output"))
                }
                None => Ok(Self::default()),
            };
        }
        if let Some(resumed) = checkpoint {
            let step = resumed.1.step;
            let note = |problem: String| format!("{problem}; going on after step {step} instead");
            return Ok(Self { resumed: Some(resumed), notes: damaged.into_iter().map(note).collect() });
        }
        if let Some(problem) = damaged.first() {
            return refuse(format!(
                "{problem}, and there is no other checkpoint to go on from; put the file back, or name another output to \
                 start again"
            ));
        }
        if let Some(name) = model {
            return refuse(format!(
                "{shown} holds a model ({name}) and no checkpoint to go on from; to train it further, give it as --model \
                 and name another output"
            ));
        }
        Ok(Self { resumed: None, notes: vec![format!("{shown} holds no checkpoint yet: the run begins with step 1")] })
    }

    /// The settings of the checkpoint that is continued, and the digest of its examples. Older checkpoints do not tell; then
    /// the file beside them does.
    fn saved<T: Settings>(&self, settings: &T) -> Option<(T, Option<String>)> {
        let (path, _) = self.resumed.as_ref()?;
        match Origin::of(path) {
            Some(saved) => Some((saved.settings, Some(saved.examples))),
            None => {
                let file = SettingsFile::read::<T>(&settings.run().output.join(SETTINGS)).ok()?;
                Some((file.with_flags(&T::default(), &BTreeSet::new()).ok()?, None))
            }
        }
    }

    /// Refuses to continue a checkpoint that holds something else than a run of `settings` trains.
    ///
    /// # Errors
    /// When it is of another command, or one of them trains adapters and the other the model, or other adapters.
    pub fn compare_kind<T: Settings>(&self, settings: &T) -> Result<()> {
        let Some((path, _)) = &self.resumed else { return Ok(()) };
        if let Some(command) = checkpoint::command_of(path).filter(|command| command != T::COMMAND) {
            return Err(Error::Request(format!(
                "{} is of a run of paddock {command}; go on with that command, or name another output",
                path.display()
            )));
        }
        let Some((saved, _)) = self.saved(settings) else { return Ok(()) };
        let Some(why) = settings.run().unlike(saved.run()) else { return Ok(()) };
        Err(Error::Request(format!(
            "{} is not of this run: {why}; name another output, or repeat its settings",
            path.display()
        )))
    }

    /// Refuses to continue a checkpoint with settings or examples that are not its own. Returns what differs where that is
    /// allowed.
    ///
    /// # Errors
    /// When they differ and `allow` is false.
    pub fn compare<T: Settings>(&self, origin: &Origin<T>, allow: bool) -> Result<Vec<String>> {
        let Some((path, _)) = &self.resumed else { return Ok(Vec::new()) };
        let settings = &origin.settings;
        let Some((saved, examples)) = self.saved(settings) else { return Ok(Vec::new()) };
        let mut changes = changes(settings, &saved);
        let (then, now) = (saved.run(), settings.run());
        let encoded_anew = then.template != now.template || then.max_length != now.max_length;
        if examples.is_some_and(|examples| examples != origin.examples) && !encoded_anew {
            changes.push(format!("the examples of {} are others than before", now.data.display()));
        }
        let models = Origin::<T>::of(path).map(|saved| saved.models).unwrap_or_default();
        let other = |(name, digest): &(&String, &String)| origin.models.get(*name).is_some_and(|now| now != *digest);
        changes.extend(
            models.iter().filter(other).map(|(name, _)| format!("what {name} names holds something else than before")),
        );
        if changes.is_empty() || allow {
            return Ok(changes);
        }
        Err(Error::Request(format!(
            "{} was made with other settings: {}; repeat them as they were, or add --allow-changes",
            path.display(),
            changes.join("; ")
        )))
    }

    /// Whether the run has been at its end already. `total` is its number of steps.
    ///
    /// # Errors
    /// When it would replace a model that has learned for longer.
    pub fn is_finished(&self, output: &Path, total: u64) -> Result<bool> {
        let Some((path, state)) = &self.resumed else { return Ok(false) };
        let done = if holds_weights(output) { MetricsFile::last_step(output) } else { 0 };
        if state.step > total || done > total {
            let (what, steps) = if done > total { (output.display(), done) } else { (path.display(), state.step) };
            return Err(Error::Request(format!(
                "{what} has learned for {steps} steps and this run ends after {total}; ask for more with --max-steps or \
                 --epochs, or name another output"
            )));
        }
        Ok(done == total)
    }

    /// Creates the run's folder and writes the settings. Files of an earlier run that would be written anew are kept under
    /// other names. What was created is removed again unless the run gets as far as [`NewFolder::keep`].
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin<T: Settings>(&self, settings: &T) -> Result<NewFolder> {
        let output = &settings.run().output;
        let folder = NewFolder::create(output)?;
        remove_partial(output)?;
        let (path, text) = (output.join(SETTINGS), settings.to_toml()?);
        if fs::read_to_string(&path).is_ok_and(|known| known != text) {
            set_aside(&path)?;
        }
        if self.resumed.is_none() {
            set_aside(&output.join(MetricsFile::NAME))?;
        }
        write_file(&path, &text)?;
        Ok(folder)
    }
}

/// Folders that were created for a run, to be removed if it does not start.
#[derive(Debug)]
pub(super) struct NewFolder {
    /// The innermost first.
    created: Vec<PathBuf>,
}

impl NewFolder {
    fn create(output: &Path) -> Result<Self> {
        let missing = output.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let created = missing.map(Path::to_path_buf).collect();
        fs::create_dir_all(output).map_err(Error::path("create", output))?;
        Ok(Self { created })
    }

    /// The run has started.
    pub fn keep(mut self) {
        self.created.clear();
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if let Some(output) = self.created.first() {
            let _ = fs::remove_file(output.join(SETTINGS));
        }
        for folder in &self.created {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A file in `folder` that belongs to a model and would be replaced, if there is one.
fn in_the_way(folder: &Path) -> Result<Option<String>> {
    const NAMES: [&str; 7] = [
        "config.json",
        "adapter_config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "params.json",
    ];
    const ENDINGS: [&str; 4] = [".safetensors", ".safetensors.index.json", ".pth", ".gguf"];
    // Other .bin files are anything.
    const BEGINNINGS: [&str; 2] = ["pytorch_model", "adapter_model"];
    let of_model = |name: &str| {
        NAMES.contains(&name)
            || ENDINGS.iter().any(|end| name.ends_with(end))
            || BEGINNINGS.iter().any(|start| name.starts_with(start))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::path("read", folder))? {
        let name = entry.map_err(Error::path("read", folder))?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && of_model(&name) {
            found.push(name);
        }
    }
    Ok(found.into_iter().min())
}

fn holds_weights(folder: &Path) -> bool {
    WEIGHTS.iter().any(|name| folder.join(name).exists())
}

/// Renames a file, if it is there, to the first free of `name-1`, `name-2`, ….
fn set_aside(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(path.file_stem()), part(path.extension()));
    let mut free = (1..u32::MAX).map(|number| path.with_file_name(format!("{stem}-{number}.{extension}")));
    match free.find(|free| !free.exists()) {
        Some(free) => fs::rename(path, &free).map_err(Error::path("rename", path)),
        None => Err(Error::Request(format!("there is no free name for {}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{RunSettings, SftSettings};

    fn settings(output: &Path) -> SftSettings {
        let run = RunSettings { model: "m".into(), data: "d".into(), output: output.into(), ..RunSettings::default() };
        SftSettings { run, ..SftSettings::default() }
    }

    #[test]
    fn what_is_in_the_way_is_named_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path();
        let find = |resume| Start::find(output, resume).map(|_| ()).map_err(|error| error.to_string());
        fs::write(output.join("notes.txt"), "").unwrap();
        fs::write(output.join(".hidden.bin"), "").unwrap();
        assert_eq!((find(false), find(true)), (Ok(()), Ok(())));
        for name in
            ["model-00001-of-00002.safetensors", "config.json", "pytorch_model.bin", "a.gguf", "consolidated.00.pth"]
        {
            fs::write(output.join(name), "").unwrap();
            let problem = find(false).unwrap_err();
            assert!(problem.contains("holds a model") && problem.contains(name), "{problem}");
            assert!(find(true).unwrap_err().contains("no checkpoint to go on from"));
            fs::remove_file(output.join(name)).unwrap();
        }
        fs::create_dir(output.join("checkpoint-3")).unwrap();
        assert!(find(false).unwrap_err().contains("holds a run"));
        let problem = find(true).unwrap_err();
        assert!(problem.contains("checkpoint-3") && problem.contains("hashes.json is missing"), "{problem}");
        let file = output.join("notes.txt");
        assert!(Start::find(&file, false).unwrap_err().to_string().contains("is a file"));
    }

    #[test]
    fn a_start_that_fails_leaves_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("deep/run");
        drop(Start::default().begin(&settings(&output)).unwrap());
        assert!(!folder.path().join("deep").exists());
        Start::default().begin(&settings(&output)).unwrap().keep();
        assert!(output.join(SETTINGS).exists());
        // One that was there is left as it was.
        drop(Start::default().begin(&settings(&output)).unwrap());
        assert!(output.join(SETTINGS).exists());
    }

    #[test]
    fn earlier_settings_and_metrics_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path();
        fs::write(output.join(MetricsFile::NAME), "{\"step\": 1}\n").unwrap();
        let names = |ending: &str| {
            let names = fs::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
            names.sort();
            names
        };
        for seed in [1, 1, 2, 3] {
            let mut settings = settings(output);
            settings.run.seed = seed;
            Start::default().begin(&settings).unwrap().keep();
        }
        assert_eq!(names(".jsonl"), ["metrics-1.jsonl"]);
        assert_eq!(names(".toml"), ["settings-1.toml", "settings-2.toml", "settings.toml"]);
    }
}
