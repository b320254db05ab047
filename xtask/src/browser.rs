//! Headless Chromium, driven through chromedriver (W3C WebDriver over HTTP), for the end-to-end tests and the
//! measurements. As in a test, a failure after the browser has started is a panic.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, thread};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Result;
use crate::process;
use crate::workspace;
use driver::Driver;
use guard::Guard;

mod driver;
mod element;
mod guard;

/// How long to wait for what the page will show: enough for a model on a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The names under which Chromium is installed.
pub const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// The program that drives it.
pub const DRIVER: &str = "chromedriver";

/// Wraps the page's way of starting a worker and keeps what the worker posts: reports of jobs, and other events. Both
/// are objects with one key, their name, or just the name.
const WATCH_WORKERS: &str = "
    window.workerEvents = [];
    window.Worker = class extends Worker {
        constructor(...parameters) {
            super(...parameters);
            window.pageWorker = this;
            this.addEventListener('message', ({ data }) => {
                const message = JSON.parse(data);
                const event = message.job?.report ?? message;
                window.workerEvents.push(typeof event === 'string' ? { [event]: true } : event);
            });
        }
    };";

/// A browser with one tab and an empty profile. It is closed when dropped, and when this process ends.
pub struct Browser {
    session: String,
    agent: ureq::Agent,
    _driver: Driver,
    profile: TempDir,
    _guard: Option<Guard>,
    /// The sites that were opened.
    origins: Mutex<BTreeSet<String>>,
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
        let driver = Driver::start(&driver, &profile.path().join("chromedriver.log"));
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        let session = format!("http://127.0.0.1:{}/session", driver.port());
        let mut browser =
            Self { session, agent, _driver: driver, profile, _guard: None, origins: Mutex::new(BTreeSet::new()) };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--enable-unsafe-webgpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            // The address bar draws its suggestions with pages of its own, which cost more time than the page tested.
            "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,PreloadTopChromeWebUI",
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
        let processes = [Some(browser._driver.process_id()), browser.process_id()];
        browser._guard = Guard::new(processes.into_iter().flatten(), browser.profile.path());
        Ok(browser)
    }

    /// Makes this browser as one that has just been started, in a quarter of the time: with another tab, and without
    /// anything that the sites it has opened left behind.
    pub fn renew(&mut self) {
        let old: Vec<String> = serde_json::from_value(self.get("/window/handles")).expect("names of tabs");
        let new = self.post("/window/new", json!({ "type": "tab" }));
        for tab in old {
            self.switch_to(&tab);
            self.delete("/window");
        }
        self.post("/window", json!({ "handle": new["handle"] }));
        for origin in std::mem::take(self.origins.get_mut().expect("no panic while it was held")) {
            self.devtools("Storage.clearDataForOrigin", json!({ "origin": origin, "storageTypes": "all" }));
        }
        self.devtools("Network.clearBrowserCache", json!({}));
        self.console();
    }

    /// Chromium's process, as its profile names it while it runs: the link `SingletonLock` to `<host>-<id>`.
    pub fn process_id(&self) -> Option<u32> {
        let lock = fs::read_link(self.profile.path().join("SingletonLock")).ok()?;
        lock.to_str()?.rsplit_once('-')?.1.parse().ok()
    }

    /// Opens an address.
    pub fn open(&self, url: &str) {
        if let Ok(address) = url.parse::<ureq::http::Uri>()
            && let (Some(scheme), Some(authority)) = (address.scheme(), address.authority())
        {
            let mut origins = self.origins.lock().expect("no panic while it was held");
            origins.insert(format!("{scheme}://{authority}"));
        }
        self.post("/url", json!({ "url": url }));
    }

    /// The tab that commands go to.
    pub fn tab(&self) -> String {
        self.get("/window").as_str().expect("a handle").to_string()
    }

    /// Opens an empty tab beside the others. Commands go to it from now on.
    pub fn open_tab(&self) {
        let opened = self.post("/window/new", json!({ "type": "tab" }));
        self.switch_to(opened["handle"].as_str().expect("a handle"));
    }

    /// Commands go to this tab from now on.
    pub fn switch_to(&self, tab: &str) {
        self.post("/window", json!({ "handle": tab }));
    }

    /// The value of a script's body, for example `return document.title`.
    ///
    /// # Panics
    /// When the script throws.
    pub fn evaluate(&self, script: &str) -> Value {
        // WebDriver's own command compiles a library of helpers each time, twice the work of all else that it does.
        let expression = format!("(() => {{ {script} }})()");
        let outcome = self.devtools("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        let exception = &outcome["exceptionDetails"];
        assert!(exception.is_null(), "{script}: {exception}");
        outcome["result"]["value"].clone()
    }

    /// The value that a script hands to its last argument, `done`: `const done = arguments[0]; …`.
    pub fn evaluate_async(&self, script: &str) -> Value {
        self.post("/execute/async", json!({ "script": script, "args": [] }))
    }

    /// Runs a script in every page that is opened from now on, before the page's own.
    pub fn run_before_pages(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
    }

    /// Keeps what the worker of the next page posts, for [`Browser::worker_event`].
    pub fn watch_workers(&self) {
        self.run_before_pages(WATCH_WORKERS);
    }

    /// The last event, or report of a job, of this name that the page's worker has sent.
    pub fn worker_event(&self, name: &str) -> Option<Value> {
        let script = format!("return window.workerEvents.findLast(event => {name:?} in event)?.[{name:?}] ?? null");
        Some(self.evaluate(&script)).filter(|event| !event.is_null())
    }

    /// Sends the page's worker a request, as the page does.
    pub fn post_to_worker(&self, request: &Value) {
        self.evaluate(&format!("window.pageWorker.postMessage({})", json!(request.to_string())));
    }

    /// A viewport in CSS pixels, as a phone has it when `mobile`, in the colour scheme `light` or `dark`.
    pub fn set_viewport(&self, width: u32, height: u32, mobile: bool, scheme: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features);
        let query = format!("(width: {width}px) and (prefers-color-scheme: {scheme})");
        let applied = format!("return matchMedia({query:?}).matches");
        self.wait(&query, PATIENCE, |browser| (browser.evaluate(&applied) == true).then_some(()));
    }

    /// Drops files and folders of this device in the middle of the viewport, as a person does.
    pub fn drop_paths(&self, paths: &[&Path]) {
        let middle = self.evaluate("return [innerWidth / 2, innerHeight / 2]");
        let data = json!({ "items": [], "files": paths, "dragOperationsMask": 1 });
        for kind in ["dragEnter", "dragOver", "drop"] {
            let event = json!({ "type": kind, "x": middle[0], "y": middle[1], "data": data });
            self.devtools("Input.dispatchDragEvent", event);
        }
    }

    /// Lets the site at `url` store no more than so many bytes.
    pub fn set_quota(&self, url: &str, bytes: u64) {
        self.devtools("Storage.overrideQuotaForOrigin", json!({ "origin": url, "quotaSize": bytes }));
    }

    /// Writes a PNG of the viewport.
    pub fn screenshot(&self, path: &Path) {
        let image = self.get("/screenshot");
        let png = BASE64_STANDARD.decode(image.as_str().expect("a text")).expect("base64");
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for the screenshots");
        fs::write(path, png).expect("the screenshot");
    }

    /// Writes a WebP of the viewport, which is several times smaller.
    pub fn picture(&self, path: &Path) {
        let image = self.devtools("Page.captureScreenshot", json!({ "format": "webp", "quality": 82 }));
        let webp = BASE64_STANDARD.decode(image["data"].as_str().expect("a text")).expect("base64");
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for the pictures");
        fs::write(path, webp).expect("the picture");
    }

    /// What the page wrote to its console.
    pub fn console(&self) -> String {
        let log = self.post("/se/log", json!({ "type": "browser" }));
        let lines = log.as_array().into_iter().flatten().filter_map(|entry| entry["message"].as_str());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits until `condition` returns something.
    ///
    /// # Panics
    /// After `limit`, with the page's text and console.
    pub fn wait<T>(&self, what: &str, limit: Duration, condition: impl Fn(&Self) -> Option<T>) -> T {
        self.wait_for(what, limit, |browser| condition(browser).ok_or_else(String::new))
    }

    /// As [`Browser::wait`]; the error of `condition` says why it does not hold yet.
    pub fn wait_for<T>(&self, what: &str, limit: Duration, condition: impl Fn(&Self) -> Result<T, String>) -> T {
        let begin = Instant::now();
        loop {
            let obstacle = match condition(self) {
                Ok(value) => return value,
                Err(obstacle) => obstacle,
            };
            if begin.elapsed() > limit {
                let text = self.evaluate("return document.body.innerText");
                // The harness names a test's thread after the test.
                let test = thread::current().name().unwrap_or("browser").replace("::", "-");
                let screenshot = screenshots().join(format!("failed-{test}.png"));
                self.screenshot(&screenshot);
                panic!(
                    "{what}: not within {limit:?} {obstacle} (see {})\npage: {text}\nconsole: {}",
                    screenshot.display(),
                    self.console()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.try_post(path, body).unwrap_or_else(|refusal| panic!("WebDriver {path}: {}", refusal.message))
    }

    /// As [`Browser::post`], for commands that the page may rightly refuse.
    fn try_post(&self, path: &str, body: Value) -> Result<Value, Refusal> {
        let address = format!("{}{path}", self.session);
        let response = self.agent.post(&address).send_json(&body).and_then(|mut r| r.body_mut().read_json::<Value>());
        value(path, response)
    }

    fn delete(&self, path: &str) {
        let response = self.agent.delete(format!("{}{path}", self.session)).call();
        let response = response.and_then(|mut r| r.body_mut().read_json::<Value>());
        value(path, response).unwrap_or_else(|refusal| panic!("WebDriver {path}: {}", refusal.message));
    }

    fn get(&self, path: &str) -> Value {
        let response = self.agent.get(format!("{}{path}", self.session)).call();
        // A screenshot is longer than the client's usual limit.
        let response = response.and_then(|mut r| r.body_mut().with_config().limit(64 << 20).read_json::<Value>());
        value(path, response).unwrap_or_else(|refusal| panic!("WebDriver {path}: {}", refusal.message))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        /// A browser that takes longer has hung, or might as well: nothing is lost when it is killed.
        const CLOSING: Duration = Duration::from_secs(3);
        self.agent.delete(&self.session).config().timeout_global(Some(CLOSING)).build().call().ok();
        // A browser that hangs, or never answered its driver, would outlive it.
        if let Some(id) = self.process_id() {
            Command::new("kill").args(["-KILL", &id.to_string()]).status().ok();
        }
    }
}

/// Where pictures of the page go.
pub fn screenshots() -> PathBuf {
    workspace::target().join("screenshots")
}

/// WebDriver's refusal to carry out a command.
struct Refusal {
    /// WebDriver's own name of the error, such as `stale element reference`.
    error: String,
    message: String,
}

/// The `value` of WebDriver's answer.
fn value(path: &str, response: Result<Value, ureq::Error>) -> Result<Value, Refusal> {
    let mut answer = response.unwrap_or_else(|error| panic!("WebDriver {path}: {error}"));
    let value = answer["value"].take();
    match (value.get("error"), value.get("stacktrace")) {
        (Some(error), Some(_)) => Err(Refusal {
            error: error.as_str().unwrap_or_default().to_string(),
            message: value["message"].as_str().unwrap_or_default().to_string(),
        }),
        _ => Ok(value),
    }
}
