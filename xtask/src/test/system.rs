//! What the tests need from the system: a browser with its driver, and a Vulkan driver.

use std::fs;
use std::path::Path;
use std::process::Command;

use xtask::browser::{CHROMIUM, DRIVER};
use xtask::{Result, process, workspace};

/// Debian's packages for all of it.
const PACKAGES: [&str; 5] = ["chromium", "chromium-driver", "mesa-vulkan-drivers", "libvulkan1", "fonts-liberation"];

/// Installs what is missing when this is Debian and we are root.
///
/// # Errors
/// Says what is missing when it cannot be installed.
pub fn ensure() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let root = process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !root || !Path::new("/etc/debian_version").exists() {
        return Err(format!(
            "{} missing; install it with your system's packages (on Debian: {})",
            missing.join(", "),
            PACKAGES.join(" ")
        ));
    }
    eprintln!("Installing {} …", PACKAGES.join(", "));
    let log = workspace::cache().join("apt.log");
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        process::run_logged(apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"), &log)
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], &PACKAGES[..]].concat())
}

fn missing() -> Vec<&'static str> {
    let chromium = CHROMIUM.iter().any(|name| process::find(name).is_some());
    let driver = process::find(DRIVER).is_some();
    // Elsewhere the graphics interface is part of the system.
    let vulkan = !cfg!(target_os = "linux")
        || ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"]
            .iter()
            .any(|folder| fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()));
    [(chromium, "Chromium is"), (driver, "chromedriver is"), (vulkan, "a Vulkan driver is")]
        .into_iter()
        .filter_map(|(present, name)| (!present).then_some(name))
        .collect()
}
