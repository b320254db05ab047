//! NVIDIA's runtime compiler, by which the tests compile the CUDA kernels: no GPU and no CUDA are needed for it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use crate::Result;
use crate::wheel::Wheel;
use crate::workspace;

const WHEEL: Wheel = Wheel {
    package: "nvidia-cuda-nvrtc",
    version: "13.0.88",
    file: "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
    variable: "PADDOCK_NVRTC_WHEEL",
};
/// The libraries of the wheel that are needed.
const LIBRARIES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc-builtins.so.13.0"];

/// The variable by which the loader finds libraries.
pub const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// The folder of the compiler's libraries below `.paddock`, if they were downloaded before.
pub fn present() -> Option<PathBuf> {
    Some(folder()).filter(|folder| LIBRARIES.iter().all(|name| folder.join(name).is_file()))
}

/// The folder of the compiler's libraries below `.paddock`, downloaded when they are not there yet.
///
/// # Errors
/// When this is another system than the wheel's, or it cannot be had.
pub fn ensure() -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("NVRTC comes for Linux on x86-64 only".to_string());
    }
    if let Some(folder) = present() {
        return Ok(folder);
    }
    let folder = folder();
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let wheel = WHEEL.fetch(&folder, "NVIDIA's runtime compiler (90 MB)")?;
    let unpack = || -> io::Result<()> {
        let mut archive = zip::ZipArchive::new(File::open(&wheel)?)?;
        for name in LIBRARIES {
            let part = folder.join(name).with_extension("part");
            let mut out = File::create(&part)?;
            io::copy(&mut archive.by_name(&format!("nvidia/cu13/lib/{name}"))?, &mut out)?;
            out.sync_all()?;
            fs::rename(part, folder.join(name))?;
        }
        if wheel.starts_with(&folder) { fs::remove_file(&wheel) } else { Ok(()) }
    };
    unpack().map_err(|error| format!("{} cannot be unpacked: {error}", wheel.display()))?;
    Ok(folder)
}

fn folder() -> PathBuf {
    workspace::cache().join("nvrtc").join(WHEEL.version)
}

/// [`LIBRARY_PATH`] with `folder` in front.
pub fn library_path(folder: PathBuf) -> OsString {
    let rest = env::var_os(LIBRARY_PATH).unwrap_or_default();
    let all = std::iter::once(folder).chain(env::split_paths(&rest));
    // A folder that cannot stand in a list is not in front of anything.
    env::join_paths(all).unwrap_or(rest.clone())
}
