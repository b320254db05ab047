//! Links, and the page without a network or without headers.

use std::path::{Path, PathBuf};

use paddock_tests::page::{PATIENCE, Page};
use paddock_tests::site::TestSite;
use paddock_tests::skip;
use xtask::workspace;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-mha")
}

fn site() -> Option<TestSite> {
    TestSite::start(&[("tiny", &tiny())], &[])
}

/// The page has a service worker that keeps it; one of `trunk build` alone keeps nothing.
fn keeps_the_page() -> bool {
    let text = std::fs::read_to_string(workspace::dist().join("sw.js")).unwrap_or_default();
    let keeps = text.contains("\"app_bg.wasm\"");
    if !keeps {
        skip("browser", "dist/ holds a page without its list of files (`cargo xtask test` builds it)");
    }
    keeps
}

/// Waits until the service worker has kept the page.
fn wait_for_service_worker(page: &Page) {
    let active = "const done = arguments[0];
        navigator.serviceWorker.ready.then(registration => done(registration.active.state), error => done(String(error)));";
    page.browser
        .wait("the service worker", PATIENCE, |browser| (browser.evaluate_async(active) == "activated").then_some(()));
}

#[test]
fn a_shared_link_brings_model_settings_and_question() {
    let Some(site) = site() else { return };
    let Some(page) = Page::open(site, "device=cpu") else { return };
    page.wait_for("empty");
    page.set_greedy("none", 7);
    page.browser.evaluate("navigator.clipboard.writeText = async text => { window.copied = text; };");
    page.type_text("composer", "Why & how?");
    page.click("share");
    let link = page.browser.wait("the link", PATIENCE, |browser| {
        browser.evaluate("return window.copied ?? null").as_str().map(str::to_string)
    });
    let (address, fragment) = link.split_once('#').expect("a fragment");
    assert!(!address.contains('?'), "nothing of it reaches a server: {link}");
    assert!(fragment.contains("model=tiny") && fragment.contains("prompt=Why%20%26%20how%3F"), "{link}");

    page.browser.open("about:blank");
    page.browser.open(&link);
    page.wait_for("empty");
    page.browser.wait("the question", PATIENCE, |browser| {
        let text = browser.evaluate("return document.querySelector('[data-testid=composer]')?.value ?? null");
        (text == "Why & how?").then_some(())
    });
    page.click("options-button");
    page.wait_for_value("option-max-tokens", "7");
    page.wait_for_value("option-temperature", "0");
    page.wait_for_value("template-select", "none");
    page.click("options-close");
}

#[test]
fn after_the_first_visit_the_page_needs_no_network() {
    let Some(site) = site() else { return };
    if !keeps_the_page() {
        return;
    }
    let Some(page) = Page::open(site, "model=tiny&device=cpu&autoload=1") else { return };
    page.wait_for("ready");
    wait_for_service_worker(&page);
    // The list of models is kept when the page under the service worker reads it.
    page.visit("model=tiny&device=cpu&autoload=1");
    page.wait_for("ready");
    page.set_greedy("none", 8);
    let answer = page.ask("The cat");
    page.site().close();
    page.visit("model=tiny&device=cpu&autoload=1");
    page.wait_for("ready");
    page.click("new-chat");
    page.set_greedy("none", 8);
    assert_eq!(page.ask("The cat"), answer);
    // What reads data was kept, too, though nothing has been read so far.
    page.go_to("data");
    page.import_by("data-file", r#"{"prompt":"Add.","completion":"1"}"#);
    page.wait_for_texts("data-count", &["1"]);
}

#[test]
fn the_service_worker_isolates_the_page_where_the_host_does_not() {
    let Some(site) = site() else { return };
    if !keeps_the_page() {
        return;
    }
    let Some(page) = Page::open(site.plain(), "device=cpu") else { return };
    page.wait_for("empty");
    assert_eq!(page.browser.evaluate("return crossOriginIsolated"), false);
    wait_for_service_worker(&page);
    page.visit("model=tiny&device=cpu&autoload=1");
    page.wait_for("ready");
    assert_eq!(page.browser.evaluate("return crossOriginIsolated"), true);
}

/// Has the site serve another version of the page, with this change of its service worker, and waits until that is installed.
fn offer_new_version(page: &Page, change: impl FnOnce(String) -> String) {
    // What `xtask` writes when any file of the page has changed.
    page.site().change_page("index.html", |text| text.replace("<title>", "<title>New "));
    page.site().change_page("sw.js", |text| change(text.replace("const VERSION = \"", "const VERSION = \"new")));
    let update = "const done = arguments[0];
        navigator.serviceWorker.getRegistration().then(async registration => {
            await registration.update();
            done(registration.waiting?.state ?? null);
        }).catch(error => done(String(error)));";
    page.browser
        .wait("the new version", PATIENCE, |browser| (browser.evaluate_async(update) == "installed").then_some(()));
}

/// The page as its service worker serves it.
fn served_page(page: &Page) -> String {
    let file = "const done = arguments[0]; fetch('./index.html').then(response => response.text()).then(done);";
    page.browser.evaluate_async(file).as_str().unwrap_or_default().to_string()
}

#[test]
fn a_new_version_of_the_page_comes_with_a_reload_and_loses_nothing() {
    let Some(site) = site() else { return };
    if !keeps_the_page() {
        return;
    }
    let Some(page) = Page::open(site.with_own_page(), "model=tiny&device=cpu&autoload=1") else { return };
    page.wait_for("ready");
    wait_for_service_worker(&page);
    page.set_greedy("none", 8);
    let answer = page.ask("The cat");
    page.type_text("composer", "half a question");
    page.wait_until_kept();

    offer_new_version(&page, |text| text);
    // Until the page is loaded again all of it is of the old version.
    assert!(!served_page(&page).contains("<title>New "));

    page.visit("model=tiny&device=cpu&autoload=1");
    page.wait_for("ready");
    assert!(served_page(&page).contains("<title>New "));
    page.wait_for_value("composer", "half a question");
    page.browser.wait("the chat", PATIENCE, |_| (page.answer_text() == answer.text).then_some(()));
    // The model comes from the storage: nothing of it was fetched again.
    assert_eq!(page.site().ranges(".safetensors").len(), 1);
}

#[test]
fn a_new_version_that_cannot_take_over_leaves_the_page_as_it_is() {
    let Some(site) = site() else { return };
    if !keeps_the_page() {
        return;
    }
    let Some(page) = Page::open(site.with_own_page(), "model=tiny&device=cpu") else { return };
    page.wait_for("empty");
    wait_for_service_worker(&page);
    offer_new_version(&page, |text| text.replace("self.skipWaiting()", "0"));
    page.visit("model=tiny&device=cpu&autoload=1");
    page.wait_for("ready");
    assert!(!served_page(&page).contains("<title>New "));
    let waiting = "const done = arguments[0];
        navigator.serviceWorker.getRegistration().then(({ waiting }) => done(waiting?.state ?? null));";
    assert_eq!(page.browser.evaluate_async(waiting), "installed");
}
