//! `cargo xtask gpu-check`: the CUDA backend on a real GPU, here or on a machine that a folder is carried to.

use std::fs;
use std::path::{Path, PathBuf};

use xtask::{Result, process, workspace};

/// Where to check.
#[derive(clap::Args)]
pub struct Options {
    /// Make a folder to carry to a Linux machine with a GPU instead; there `./run` checks and writes REPORT.md.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
}

/// What starts the check in a folder that was carried.
const RUN: &str = "#!/bin/sh\n# Checks the CUDA backend on this machine's GPU and writes REPORT.md beside this file.\n\
                   cd \"$(dirname \"$0\")\" && PADDOCK_FIXTURES=fixtures exec ./gpu-check REPORT.md\n";
/// The fixtures that the check reads.
const FIXTURES: [&str; 3] = ["sft", "score", "gguf-blocks"];

/// Builds the check and runs it, or packs it.
pub fn run(options: &Options) -> Result<()> {
    let mut build = workspace::cargo();
    process::run(build.args(["build", "--quiet", "--release", "-p", "paddock-tests", "--bin", "gpu-check"]))?;
    let binary = workspace::target().join("release/gpu-check");
    match &options.pack {
        Some(folder) => pack(&binary, folder),
        None => {
            let report = workspace::root().join("docs/gpu/REPORT.md");
            process::run(std::process::Command::new(binary).arg(report))
        }
    }
}

fn pack(binary: &Path, folder: &Path) -> Result<()> {
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::copy(binary, folder.join("gpu-check"))?;
        for name in FIXTURES {
            let to = folder.join("fixtures").join(name);
            fs::create_dir_all(&to)?;
            for entry in fs::read_dir(workspace::root().join("tests/fixtures").join(name))? {
                let path = entry?.path();
                fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
            }
        }
        let run = folder.join("run");
        fs::write(&run, RUN)?;
        // The binary's permissions are those of a program.
        fs::set_permissions(&run, fs::metadata(binary)?.permissions())
    };
    copy().map_err(|error| format!("cannot write {}: {error}", folder.display()))?;
    println!("{}: carry it to a machine with an NVIDIA GPU and CUDA, and start ./run there", folder.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_folder_has_all_that_is_carried() {
        let folder = tempfile::TempDir::new().unwrap();
        let (binary, packed) = (folder.path().join("built"), folder.path().join("packed"));
        fs::write(&binary, "a program").unwrap();
        pack(&binary, &packed).unwrap();
        for file in ["gpu-check", "run", "fixtures/sft/expected.json", "fixtures/gguf-blocks/expected.safetensors"] {
            assert!(packed.join(file).is_file(), "{file}");
        }
        assert!(fs::read_to_string(packed.join("run")).unwrap().contains("./gpu-check REPORT.md"));
    }
}
