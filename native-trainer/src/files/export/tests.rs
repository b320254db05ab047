use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;

use paddock_engine::config::Param;
use paddock_engine::weights::Encoding;
use tempfile::TempDir;

use super::*;

const ROWS: usize = 5;

/// Tensor `t` is filled with the byte `t`. Fails at the first row of `fails`, and records what was requested.
struct Numbers<'a> {
    fails: Option<(usize, fn() -> Error)>,
    asked: &'a Mutex<BTreeSet<usize>>,
}

impl Rows for Numbers<'_> {
    fn rows(&mut self, tensor: usize, rows: Range<usize>) -> Result<Vec<u8>> {
        self.asked.lock().unwrap().insert(tensor);
        match self.fails {
            Some((fails, error)) if tensor >= fails => Err(error()),
            _ => Ok(vec![tensor as u8; rows.len() * 8]),
        }
    }

    fn finish(&mut self, tensor: usize) -> Result<Value> {
        Ok(tensor.into())
    }
}

fn export(output: &Path, key: &str) -> Export {
    let stored = |index: usize| Stored {
        param: Param { name: format!("tensor.{index}"), shape: [ROWS, 4] },
        encoding: Encoding::F16,
    };
    Export { output: output.to_path_buf(), tensors: (0..9).map(stored).collect(), key: key.to_string(), threads: 3 }
}

/// Runs the export and returns the tensors that it requested.
fn run(export: &Export, fails: Option<(usize, fn() -> Error)>) -> (Result<Exported>, Vec<usize>) {
    let asked = Mutex::default();
    let exported = export.run(&|| Ok(Numbers { fails, asked: &asked }), &mut |_| {});
    (exported, asked.into_inner().unwrap().into_iter().collect())
}

fn disk_full() -> Error {
    Error::path("write", Path::new("disk"))(io::ErrorKind::StorageFull.into())
}

fn wrong() -> Error {
    Error::Request("wrong".to_string())
}

fn check(output: &Path) {
    let bytes = fs::read(output.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for index in 0..9 {
        assert_eq!(tensors.tensor(&format!("tensor.{index}")).unwrap().data(), vec![index as u8; ROWS * 8]);
    }
    let names: Vec<_> = fs::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

fn files() -> Vec<(String, Vec<u8>)> {
    vec![("config.json".to_string(), b"{}".to_vec())]
}

#[test]
fn a_full_disk_leaves_no_output_and_the_next_run_goes_on() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("out");
    let (result, _) = run(&export(&output, "key"), Some((4, disk_full)));
    assert!(result.unwrap_err().to_string().contains("cannot write disk"));
    assert!(!output.exists());

    // The journal's claims are checked: the file's second tensor was damaged in the meantime.
    let weights = folder.path().join(".out.partial/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let at = bytes.len() - 8 * ROWS * 8;
    bytes[at] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let (result, asked) = run(&export(&output, "key"), None);
    assert_eq!(asked, [1, 4, 5, 6, 7, 8]);
    let exported = result.unwrap();
    assert_eq!(exported.records, (0..9).map(Value::from).collect::<Vec<_>>());
    exported.commit(&files()).unwrap();
    check(&output);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn another_key_begins_anew() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("out");
    assert!(run(&export(&output, "one"), Some((4, disk_full))).0.is_err());
    let (result, asked) = run(&export(&output, "two"), None);
    assert_eq!(asked, (0..9).collect::<Vec<_>>());
    result.unwrap().commit(&files()).unwrap();
    check(&output);
}

#[test]
fn wrong_tensors_leave_nothing_and_the_first_is_named() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("out");
    let (result, asked) = run(&export(&output, "key"), Some((3, wrong)));
    assert_eq!(result.unwrap_err().to_string(), "wrong");
    assert!(asked.starts_with(&[0, 1, 2, 3]), "{asked:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_with_files_is_left_alone() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("diary.txt"), "dear").unwrap();
    let (result, asked) = run(&export(folder.path(), "key"), None);
    assert!(result.unwrap_err().to_string().contains("name another output") && asked.is_empty());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn two_runs_do_not_write_the_same_folder() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("out");
    let first = run(&export(&output, "key"), None).0.unwrap();
    let second = run(&export(&output, "key"), None).0.unwrap_err().to_string();
    assert!(second.contains("another paddock"), "{second}");
    first.abandon();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
