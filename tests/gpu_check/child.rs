//! Other programs, and this one in a process of its own: what hangs or dies there takes nothing along.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What `command` printed until it ended, and how it did; `None` when it was stopped after `limit`. What it says on
/// standard error goes where this program's goes.
///
/// # Errors
/// When it cannot be started.
pub fn run(command: &mut Command, limit: Duration) -> std::io::Result<(String, Option<ExitStatus>)> {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What came before a failure is worth having.
        output.map(|mut output| output.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if began.elapsed() > limit => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    Ok((reader.join().unwrap_or_default(), status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_and_one_that_hangs_is_stopped() {
        let mut shell = Command::new("sh");
        let (text, status) = run(shell.args(["-c", "echo a; exit 3"]), Duration::from_secs(60)).unwrap();
        assert_eq!((text.as_str(), status.unwrap().code()), ("a\n", Some(3)));
        let mut shell = Command::new("sh");
        let (text, status) = run(shell.args(["-c", "echo b; exec sleep 600"]), Duration::from_millis(300)).unwrap();
        assert_eq!((text.as_str(), status), ("b\n", None));
    }
}
