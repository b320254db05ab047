//! Headless Chromium, driven through chromedriver (W3C WebDriver over HTTP), for the end-to-end tests and the
//! measurements. As in a test, what goes wrong once the browser runs is a panic.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Result;
use crate::process;
use crate::workspace;

/// WebDriver's own name for a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The names under which Chromium is installed.
pub const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// The program that drives it.
pub const DRIVER: &str = "chromedriver";

/// Wraps the page's way of starting a worker. Events are objects with one key, their name, or just the name.
const WATCH_WORKERS: &str = "
    window.workerEvents = [];
    window.Worker = class extends Worker {
        constructor(...parameters) {
            super(...parameters);
            window.pageWorker = this;
            this.addEventListener('message', ({ data }) => {
                const event = JSON.parse(data);
                window.workerEvents.push(typeof event === 'string' ? { [event]: true } : event);
            });
        }
    };";

/// A browser with one tab and an empty profile. It is closed when dropped.
pub struct Browser {
    session: String,
    agent: ureq::Agent,
    _driver: Driver,
    profile: TempDir,
}

/// chromedriver; it ends when dropped.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Browser {
    /// Starts Chromium with WebGPU on its software adapter.
    ///
    /// # Errors
    /// Where Chromium or its driver is not on the PATH.
    pub fn start() -> Result<Self> {
        let chromium = CHROMIUM.iter().find_map(process::find);
        let (Some(chromium), Some(driver)) = (chromium, process::find(DRIVER)) else {
            return Err("chromium and chromedriver are not both on the PATH".to_string());
        };
        let profile = TempDir::new().expect("a temporary folder");
        let (driver, port) = start_driver(&driver, &profile.path().join("chromedriver.log"));
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(300)))
            .build()
            .new_agent();
        let mut browser = Self { session: format!("http://127.0.0.1:{port}/session"), agent, _driver: driver, profile };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--enable-unsafe-webgpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            // Small shared-memory mounts, as containers have them, make tabs crash.
            "--disable-dev-shm-usage",
            &format!("--user-data-dir={}", browser.profile.path().display()),
        ];
        let session = browser.post(
            "",
            json!({ "capabilities": { "alwaysMatch": {
                "goog:chromeOptions": { "binary": chromium, "args": arguments },
                "goog:loggingPrefs": { "browser": "ALL" },
                "timeouts": { "script": 600_000, "pageLoad": 120_000 },
            }}}),
        );
        let id = session["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {session}")).to_string();
        browser.session = format!("{}/{id}", browser.session);
        Ok(browser)
    }

    /// Chromium's process, as its profile names it while it runs: the link `SingletonLock` to `<host>-<id>`.
    pub fn process_id(&self) -> Option<u32> {
        let lock = fs::read_link(self.profile.path().join("SingletonLock")).ok()?;
        lock.to_str()?.rsplit_once('-')?.1.parse().ok()
    }

    /// Opens an address.
    pub fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    /// The value of a script's body, for example `return document.title`.
    pub fn evaluate(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// The value that a script hands to its last argument, `done`: `const done = arguments[0]; …`.
    pub fn evaluate_async(&self, script: &str) -> Value {
        self.post("/execute/async", json!({ "script": script, "args": [] }))
    }

    /// From the next page on, what its worker says is kept for [`Browser::worker_event`].
    pub fn watch_workers(&self) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WATCH_WORKERS }));
    }

    /// The last event of this name that the page's worker has sent.
    pub fn worker_event(&self, name: &str) -> Option<Value> {
        let script = format!("return window.workerEvents.findLast(event => {name:?} in event)?.[{name:?}] ?? null");
        Some(self.evaluate(&script)).filter(|event| !event.is_null())
    }

    /// Sends the page's worker a request, as the page does.
    pub fn post_to_worker(&self, request: &Value) {
        self.evaluate(&format!("window.pageWorker.postMessage({})", json!(request.to_string())));
    }

    /// Clicks the element of a CSS selector as a person does: it must be visible and not covered.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/click"), json!({}));
    }

    /// Replaces what stands in the field of a CSS selector by typing `text`.
    pub fn type_text(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/clear"), json!({}));
        self.post(&format!("/element/{element}/value"), json!({ "text": text }));
    }

    /// A viewport in CSS pixels, as a phone has it when `mobile`, in the colour scheme `light` or `dark`.
    pub fn set_viewport(&self, width: u32, height: u32, mobile: bool, scheme: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    /// Writes a PNG of the viewport.
    pub fn screenshot(&self, path: &Path) {
        let image = self.get("/screenshot");
        let png = decode_base64(image.as_str().expect("base64"));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for the screenshots");
        fs::write(path, png).expect("the screenshot");
    }

    /// What the page wrote to its console.
    pub fn console(&self) -> String {
        let log = self.post("/se/log", json!({ "type": "browser" }));
        let lines = log.as_array().into_iter().flatten().filter_map(|entry| entry["message"].as_str());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits until `condition` gives something.
    ///
    /// # Panics
    /// After `limit`, with the page's text and console.
    pub fn wait<T>(&self, what: &str, limit: Duration, condition: impl Fn(&Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(value) = condition(self) {
                return value;
            }
            if begin.elapsed() > limit {
                let text = self.evaluate("return document.body.innerText");
                let screenshot = screenshots().join("failure.png");
                self.screenshot(&screenshot);
                panic!(
                    "{what}: not within {limit:?} (see {})\npage: {text}\nconsole: {}",
                    screenshot.display(),
                    self.console()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector}: {found}")).to_string()
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    fn post(&self, path: &str, body: Value) -> Value {
        let address = format!("{}{path}", self.session);
        let response = self.agent.post(&address).send_json(&body).and_then(|mut r| r.body_mut().read_json::<Value>());
        value(path, response)
    }

    fn get(&self, path: &str) -> Value {
        let response = self.agent.get(format!("{}{path}", self.session)).call();
        // A screenshot is longer than the client's usual limit.
        value(path, response.and_then(|mut r| r.body_mut().with_config().limit(64 << 20).read_json::<Value>()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        /// A browser that takes longer hangs.
        const CLOSING: Duration = Duration::from_secs(10);
        self.agent.delete(&self.session).config().timeout_global(Some(CLOSING)).build().call().ok();
        // One that hangs, or never answered its driver, would outlive it.
        if let Some(id) = self.process_id() {
            Command::new("kill").args(["-KILL", &id.to_string()]).status().ok();
        }
    }
}

/// A free port for chromedriver. Told to choose one itself, it takes what IPv6 has free and ends when IPv4 has it in
/// use; so this one is free on both, and lies below those that systems hand out to connections.
fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    // Processes begin at different places, and a process gives no port twice.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let offset = std::process::id().wrapping_mul(101).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + offset % COUNT) as u16;
        let free = |address: IpAddr| match TcpListener::bind((address, port)) {
            Ok(_) => true,
            // Without IPv6 there is nothing in the way there.
            Err(error) => address.is_ipv6() && error.kind() != ErrorKind::AddrInUse,
        };
        if free(Ipv4Addr::LOCALHOST.into()) && free(Ipv6Addr::LOCALHOST.into()) {
            return port;
        }
    }
    panic!("no port from {FIRST} on is free");
}

/// Starts chromedriver, and says on which port.
fn start_driver(program: &Path, log: &Path) -> (Driver, u16) {
    let begin = Instant::now();
    let file = File::create(log).expect("a log");
    let driver = Command::new(program)
        .arg(format!("--port={}", free_port()))
        .stdout(file.try_clone().expect("a log"))
        .stderr(file)
        .spawn()
        .expect("chromedriver starts");
    let mut driver = Driver(driver);
    loop {
        let text = fs::read_to_string(log).expect("a log");
        let port =
            text.lines().find_map(|line| line.strip_suffix('.')?.split_once("successfully on port ")?.1.parse().ok());
        if let Some(port) = port {
            return (driver, port);
        }
        if let Some(status) = driver.0.try_wait().expect("a child") {
            panic!("chromedriver ended at once ({status}): {text}");
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "chromedriver names no port: {text}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Where pictures of the page go.
pub fn screenshots() -> PathBuf {
    workspace::target().join("screenshots")
}

/// The `value` of WebDriver's answer.
fn value(path: &str, response: Result<Value, ureq::Error>) -> Value {
    let mut answer = response.unwrap_or_else(|error| panic!("WebDriver {path}: {error}"));
    let value = answer["value"].take();
    assert!(
        value.get("error").is_none() || value.get("stacktrace").is_none(),
        "WebDriver {path}: {}",
        value["message"]
    );
    value
}

/// Decodes standard base64 with padding.
fn decode_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
