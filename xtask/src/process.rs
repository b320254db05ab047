//! Other programs: finding, running and reading them.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// Runs `command` with this terminal and waits for it.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let name = name(command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{name}` failed ({status})")),
        Err(error) => Err(format!("`{name}` could not be started: {error}")),
    }
}

/// Runs `command` with both its outputs going to the file `log`, so that a failure can be told in one sentence.
///
/// # Errors
/// When it cannot be started or does not succeed; the sentence names the log.
pub fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let name = name(command);
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    }
    let open = || File::options().create(true).append(true).open(log);
    let (out, err) = open()
        .and_then(|file| Ok((file.try_clone()?, file)))
        .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    match command.stdin(Stdio::null()).stdout(out).stderr(err).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{name}` failed ({status}; see {})", log.display())),
        Err(error) => Err(format!("`{name}` could not be started: {error}")),
    }
}

/// What `command` prints on its standard output.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output =
        command.stderr(Stdio::null()).output().map_err(|error| format!("`{name}` could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{name}` failed ({})", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where `program` is on the PATH.
pub fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let mut file = program.as_ref().to_os_string();
    file.push(env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&file)).find(|path| path.is_file())
}

/// The program and its first argument: enough for a person to recognise the command.
fn name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match command.get_args().next() {
        Some(first) => format!("{program} {}", first.to_string_lossy()),
        None => program,
    }
}
