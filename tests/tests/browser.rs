//! The page in a real browser, from the pack to the streamed text.

use std::net::Ipv4Addr;

use paddock_tests::browser::Browser;
use xtask::server::{Server, Site};

/// Tells a browser without WebGPU from a page that fails.
#[test]
fn the_browser_has_webgpu() {
    let Some(browser) = Browser::start() else { return };
    // WebGPU is there for secure origins only, and localhost is one.
    let empty = Server::start(Site::default(), Ipv4Addr::LOCALHOST.into(), 0).expect("a server");
    browser.open(&empty.url());
    let adapter = browser.evaluate_async(
        "const done = arguments[0];
         navigator.gpu.requestAdapter().then(adapter => done(adapter && adapter.info.isFallbackAdapter));",
    );
    assert_eq!(adapter, true);
}
