//! The program's way to machine code: NVRTC, loaded when it is needed, and a cache on disk.
#![allow(unsafe_code, reason = "NVRTC is a C library")]

use std::ffi::{CStr, CString};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use cudarc::nvrtc::result::{self, NvrtcError};
use cudarc::nvrtc::sys;
use paddock_engine::weights::hexadecimal;
use paddock_engine::{Error, Result};
use sha2::{Digest, Sha256};

use super::formats::Formats;
use super::source::{Dialect, program};
use crate::files::AtomicFile;
use crate::files::user_cache;

/// A program in machine code.
#[derive(Debug)]
pub struct Compiled {
    /// For [`cudarc::driver::result::module::load_data`]; ends with a zero, which the driver does not read.
    pub cubin: Vec<u8>,
    /// What the compiler said, with the registers of each kernel.
    pub log: String,
}

fn refused(problem: impl Into<String>) -> Error {
    Error::Device { device: "NVRTC".into(), problem: problem.into() }
}

/// Whether NVRTC can be loaded.
pub fn is_present() -> bool {
    // SAFETY: it only tries to load the library.
    unsafe { sys::is_culib_present() }
}

/// NVRTC's version.
fn version() -> Result<(i32, i32)> {
    if !is_present() {
        return Err(refused(
            "the library was not found (libnvrtc.so); install CUDA's runtime compiler, or use the CPU",
        ));
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both point to integers that outlive the call.
    let status = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    status.result().map_err(|error| refused(format!("it does not tell its version ({error})")))?;
    Ok((major, minor))
}

/// A program that is destroyed when it is dropped.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `create_program`, and destroyed here alone. A failure leaves nothing to do.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// Compiles the program for `formats` and an architecture such as "sm_90".
///
/// # Errors
/// When NVRTC is not there, does not know the architecture, or refuses the program.
pub fn compile(formats: Formats, architecture: &str) -> Result<Compiled> {
    let (major, minor) = version()?;
    let text = CString::new(program(formats, Dialect::Device)).map_err(|error| refused(error.to_string()))?;
    let failed = |error: NvrtcError| refused(format!("version {major}.{minor} failed ({error})"));
    let program = Program(result::create_program(&text, Some(c"paddock.cu")).map_err(failed)?);
    let options = [format!("--gpu-architecture={architecture}"), "--std=c++17".into(), "--ptxas-options=-v".into()];
    // SAFETY: the program was just made and lives until the end.
    let compiled = unsafe { result::compile_program(program.0, &options) };
    // SAFETY: as above.
    let log = unsafe { result::get_program_log(program.0) }.map_err(failed)?;
    // SAFETY: NVRTC ends its log with a zero; an empty one has no bytes.
    let log = if log.is_empty() { "".into() } else { unsafe { CStr::from_ptr(log.as_ptr()) }.to_string_lossy() };
    if let Err(error) = compiled {
        let line = log.lines().find(|line| line.contains("error")).unwrap_or_default().to_string();
        return Err(refused(format!("version {major}.{minor} does not compile for {architecture} ({error}) {line}")));
    }
    let mut size = 0;
    // SAFETY: `size` outlives the call.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size) }.result().map_err(failed)?;
    let mut cubin = vec![0; size + 1];
    // SAFETY: there is room for `size` bytes.
    unsafe { sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) }.result().map_err(failed)?;
    Ok(Compiled { cubin, log: log.into_owned() })
}

/// Machine code for `formats` and `architecture` from the cache, which is filled when it has none.
///
/// # Errors
/// Those of [`compile`]; a cache that cannot be written is done without.
pub(super) fn cubin(formats: Formats, architecture: &str) -> Result<Vec<u8>> {
    let path = cached(formats, architecture)?;
    if let Some(cubin) = path.as_ref().and_then(|path| fs::read(path).ok()) {
        return Ok(cubin);
    }
    let Compiled { cubin, .. } = compile(formats, architecture)?;
    if let Some(path) = path {
        // Without the cache the next start takes some seconds longer, which is no reason to fail.
        let _ = keep(&path, &cubin);
    }
    Ok(cubin)
}

/// Forgets machine code that the driver would not load.
pub(super) fn forget(formats: Formats, architecture: &str) {
    if let Ok(Some(path)) = cached(formats, architecture) {
        let _ = fs::remove_file(path);
    }
}

fn keep(path: &std::path::Path, cubin: &[u8]) -> crate::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = AtomicFile::create(path)?;
    file.write_all(cubin)?;
    file.commit()
}

/// Where the machine code is kept: named by what it was made of.
fn cached(formats: Formats, architecture: &str) -> Result<Option<PathBuf>> {
    let (major, minor) = version()?;
    let Some(folder) = user_cache() else { return Ok(None) };
    let mut hash = Sha256::new();
    hash.update(program(formats, Dialect::Device));
    hash.update(format!("{architecture} {major}.{minor}"));
    let name = hexadecimal(&hash.finalize());
    Ok(Some(folder.join("kernels").join(format!("{name}.cubin"))))
}
