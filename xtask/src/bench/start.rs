//! `cargo xtask bench-start`: how soon a visit can be used, for the first time and again.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use xtask::browser::Browser;
use xtask::server::{Server, Site};
use xtask::{Result, default_model, models, page, tools, workspace};

use super::report;

/// Browsers that are started, each for one first visit and one after it.
const RUNS: usize = 9;
const LIMIT: Duration = Duration::from_secs(60);

/// Notes the milliseconds from the navigation to the first thing drawn, and to the moment from which a model can be loaded
/// with the button and a question be typed.
const WATCH: &str = "
    const usable = () => {
        const button = document.querySelector('[data-testid=load-button]');
        if (button && !button.disabled && document.querySelector('[data-testid=composer]')) {
            window.usable ??= performance.now();
            observer.disconnect();
        }
    };
    const observer = new MutationObserver(usable);
    observer.observe(document, { subtree: true, childList: true, attributes: true });";
const TIMES: &str = "
    const paint = performance.getEntriesByName('first-contentful-paint')[0]?.startTime;
    return window.usable && paint ? [paint, window.usable] : null;";

/// Measures, and writes the measured part of docs/benchmarks.md. Needs a machine with nothing else to do.
pub fn run() -> Result<()> {
    tools::ensure()?;
    models::pack(&default_model::ensure()?, default_model::NAME)?;
    models::write_index(&workspace::paddock(false)?, &workspace::models(), default_model::NAME)?;
    page::build()?;
    let folders = [(String::new(), workspace::dist()), ("models".to_string(), workspace::models())];
    let site = Site { folders: folders.into(), ..Site::default() };
    let server = Server::start(site, Ipv4Addr::LOCALHOST.into(), 0)?;
    let mut visits = [const { Vec::new() }; 2];
    for _ in 0..RUNS {
        let browser = Browser::start()?;
        browser.run_before_pages(WATCH);
        for times in &mut visits {
            browser.open(&server.url());
            times.push(browser.wait("the page can be used", LIMIT, times_of));
            // The service worker keeps the page for the next visit.
            let kept = "const done = arguments[0]; navigator.serviceWorker.ready.then(() => done(true));";
            browser.evaluate_async(kept);
        }
    }
    let mut text = format!(
        "{}, Chromium without a window, {RUNS} browsers with an empty profile; milliseconds from the navigation.\n\n\
         | visit | first paint, median | usable, median | slowest |\n|---|---:|---:|---:|\n",
        report::machine()
    );
    for (name, mut visits) in ["first", "second"].into_iter().zip(visits) {
        let mut sorted = |of: fn(&[f64; 2]) -> f64| {
            visits.sort_by(|a, b| of(a).total_cmp(&of(b)));
            (of(&visits[RUNS / 2]), of(&visits[RUNS - 1]))
        };
        let ((paint, _), (usable, slowest)) = (sorted(|[paint, _]| *paint), sorted(|[_, usable]| *usable));
        text += &format!("| {name} | {paint:.0} | {usable:.0} | {slowest:.0} |\n");
    }
    println!("{text}");
    report::write("bench-start", &text)
}

/// First paint and usable, once both have been.
fn times_of(browser: &Browser) -> Option<[f64; 2]> {
    let times = browser.evaluate(TIMES);
    Some([times.get(0).and_then(Value::as_f64)?, times.get(1).and_then(Value::as_f64)?])
}
