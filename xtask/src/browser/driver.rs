//! chromedriver, the program that drives Chromium.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The ports tried for chromedriver lie below those that systems hand out to connections.
const FIRST_PORT: u32 = 20_000;
const PORTS: u32 = 12_000;

/// A running chromedriver; it ends when dropped.
pub(super) struct Driver {
    process: Child,
    port: u16,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Driver {
    /// Starts `program`, which writes to `log`, and waits until it listens.
    pub(super) fn start(program: &Path, log: &Path) -> Self {
        loop {
            // Another program may take a port between our look at it and chromedriver's start; then the next one will do.
            if let Some(driver) = Self::start_on(free_port(), program, log) {
                return driver;
            }
        }
    }

    /// Its process.
    pub(super) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// The port it listens on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// `None` when the port is taken.
    fn start_on(port: u16, program: &Path, log: &Path) -> Option<Self> {
        let begin = Instant::now();
        let file = File::create(log).expect("a log");
        let process = Command::new(program)
            .arg(format!("--port={port}"))
            .stdout(file.try_clone().expect("a log"))
            .stderr(file)
            .spawn()
            .expect("chromedriver starts");
        let mut driver = Self { process, port };
        loop {
            let ended = driver.process.try_wait().expect("a child");
            let text = fs::read_to_string(log).expect("a log");
            if text.lines().any(|line| line.ends_with(&format!("successfully on port {port}."))) {
                return Some(driver);
            }
            match ended {
                Some(_) if text.contains("port not available") => return None,
                Some(status) => panic!("chromedriver ended at once ({status}): {text}"),
                None => {}
            }
            assert!(begin.elapsed() < super::PATIENCE, "chromedriver does not listen: {text}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A port that is free on IPv4 and IPv6. chromedriver cannot choose one itself: it would take one that IPv6 has free,
/// and end when IPv4 has it in use.
fn free_port() -> u16 {
    // Processes begin at different ports, and a process returns no port twice.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PORTS {
        let offset = std::process::id().wrapping_mul(101).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST_PORT + offset % PORTS) as u16;
        let free = |address: IpAddr| match TcpListener::bind((address, port)) {
            Ok(_) => true,
            // Without IPv6 the port cannot be in use there.
            Err(error) => address.is_ipv6() && error.kind() != ErrorKind::AddrInUse,
        };
        if free(Ipv4Addr::LOCALHOST.into()) && free(Ipv6Addr::LOCALHOST.into()) {
            return port;
        }
    }
    panic!("no port from {FIRST_PORT} on is free");
}
