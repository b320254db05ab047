//! axe-core (MPL-2.0), by which the tests look for what people with disabilities would stumble over. It comes inside a
//! Python wheel and runs in the tested page only; nothing of it is shipped.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::Result;
use crate::wheel::Wheel;
use crate::workspace;

const WHEEL: Wheel = Wheel {
    package: "axe-playwright-python",
    version: "0.1.8",
    file: "axe_playwright_python-0.1.8-py3-none-any.whl",
    variable: "PADDOCK_AXE_WHEEL",
};
const SCRIPT: &str = "axe_playwright_python/axe.min.js";
/// Of axe-core 4.12.1.
const SHA256: &str = "84494fec757e4710dc751c8d7a636e457f4532f08f85c86dc9070133fbff53bc";

/// The script below `.paddock`, if it was downloaded before.
pub fn present() -> Option<PathBuf> {
    Some(path()).filter(|path| path.is_file())
}

/// The script below `.paddock`, downloaded when it is not there yet.
///
/// # Errors
/// When it cannot be downloaded, or when what came is another file.
pub fn ensure() -> Result<PathBuf> {
    if let Some(path) = present() {
        return Ok(path);
    }
    let folder = workspace::cache().join("axe");
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let wheel = WHEEL.fetch(&folder, "axe-core (160 kB)")?;
    let wrong = |error: String| format!("{} is not the wheel {}: {error}", wheel.display(), WHEEL.file);
    let file = File::open(&wheel).map_err(|error| wrong(error.to_string()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| wrong(error.to_string()))?;
    let mut script = Vec::new();
    archive
        .by_name(SCRIPT)
        .map_err(|error| wrong(error.to_string()))?
        .read_to_end(&mut script)
        .map_err(|error| wrong(error.to_string()))?;
    let found: String = Sha256::digest(&script).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != SHA256 {
        return Err(wrong(format!("{SCRIPT} has the SHA-256 {found}, expected {SHA256}")));
    }
    let part = path().with_extension("part");
    fs::write(&part, script)
        .and_then(|()| fs::rename(&part, path()))
        .map_err(|error| format!("cannot write {}: {error}", part.display()))?;
    Ok(path())
}

fn path() -> PathBuf {
    workspace::cache().join("axe").join("axe.min.js")
}
