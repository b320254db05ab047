//! Closes a browser that this process would leave behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for the end of its input, which is when the process that started it ends, however it ends. Then it kills the
/// processes named by its parameters but the first, which is a folder that it removes.
const SCRIPT: &str = r#"read -r _; profile=$1; shift; kill -KILL "$@"; sleep 1; rm -rf -- "$profile""#;

/// A process that outlives this one by a moment, unless it is dropped before.
pub(super) struct Guard(Child);

impl Guard {
    /// Kills `processes` and removes `folder` when this process ends. `None` where there is no shell.
    pub(super) fn new(processes: impl Iterator<Item = u32>, folder: &Path) -> Option<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "guard"]).arg(folder).args(processes.map(|id| id.to_string()));
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok().map(Self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
