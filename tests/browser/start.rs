//! A page of which a file is missing, and one that is opened in a way in which it cannot run.

use std::path::Path;

use paddock_tests::page::{PATIENCE, Page};
use paddock_tests::site::TestSite;
use paddock_tests::skip;
use xtask::browser::Browser;
use xtask::server::Fault;
use xtask::workspace;

fn page_without(file: &str) -> Option<Page> {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-mha");
    Page::open(TestSite::start(&[("tiny", &tiny)], &[(file, Fault::Missing)])?, "")
}

/// The worker does not start: a sentence names the file and what to do, and nothing waits for ever.
fn worker_fails(file: &str) {
    let Some(page) = page_without(file) else { return };
    let sentence = page.wait_for_error();
    assert!(sentence.contains(file) && sentence.contains("Reload the page"), "{sentence}");
    for word in ["panicked", "undefined", "JsValue", "\n"] {
        assert!(!sentence.contains(word), "{sentence}");
    }
    page.click("dismiss");
    page.wait_for_texts("status-state", &["Not running"]);
    assert!(page.attribute("load-button", "disabled").is_some());
}

/// The page itself does not start, and says so without any of its own code.
fn page_fails(browser: &Browser, words: &[&str]) {
    let sentence = browser.wait("a sentence", PATIENCE, |browser| {
        let script =
            "const place = document.querySelector('#start[data-state=broken]'); return place && place.textContent;";
        browser.evaluate(script).as_str().map(str::to_string)
    });
    for word in words {
        assert!(sentence.contains(word), "expected {word:?} in: {sentence}");
    }
}

#[test]
fn a_missing_script_of_the_worker_is_one_sentence() {
    worker_fails("worker_start.js");
    worker_fails("worker.js");
}

#[test]
fn a_missing_module_of_the_worker_is_one_sentence() {
    worker_fails("worker_bg.wasm");
}

#[test]
fn a_missing_file_of_the_page_is_one_sentence() {
    for file in ["app.js", "app_bg.wasm"] {
        let Some(page) = page_without(file) else { return };
        page_fails(&page.browser, &[file, "Reload the page"]);
    }
}

#[test]
fn a_page_without_its_first_script_says_so_after_a_while() {
    let Some(page) = page_without("/start.js") else { return };
    let shown = "return getComputedStyle(document.querySelector('#start span')).visibility === 'visible'";
    page.browser.wait("the advice", PATIENCE, |browser| (browser.evaluate(shown) == true).then_some(()));
    assert!(page.text("start").is_some_and(|text| text.contains("start.js") && text.contains("Reload the page")));
}

/// What is not code is missed by the eye alone; no file of the page is without a test here.
#[test]
fn a_page_without_a_style_sheet_or_picture_works() {
    const CODE: [&str; 7] =
        ["index.html", "app.js", "app_bg.wasm", "worker.js", "worker_bg.wasm", "worker_start.js", "start.js"];
    let Ok(files) = std::fs::read_dir(workspace::dist()) else {
        return skip("browser", "dist/ holds no built page (`cargo xtask test` builds it)");
    };
    for entry in files {
        let name = entry.expect("a file").file_name().into_string().expect("a name");
        if CODE.contains(&name.as_str()) {
            continue;
        }
        let Some(page) = page_without(&format!("/{name}")) else { return };
        page.wait_for("empty");
    }
}

#[test]
fn a_page_that_is_opened_as_a_file_says_so() {
    let index = workspace::dist().join("index.html");
    if !index.is_file() {
        return skip("browser", "dist/ holds no built page (`cargo xtask test` builds it)");
    }
    let Ok(browser) = Browser::start().map_err(|reason| skip("browser", &reason)) else { return };
    browser.open(&format!("file://{}", index.display()));
    page_fails(&browser, &["opened as a file", "web server"]);
}

#[test]
fn no_script_or_style_that_is_put_into_the_page_has_an_effect() {
    let Some(site) = TestSite::start(&[], &[]) else { return };
    let Ok(browser) = Browser::start().map_err(|reason| skip("browser", &reason)) else { return };
    browser.open(&site.page(""));
    let refused = browser.evaluate(
        "const script = document.createElement('script');
         script.textContent = 'window.injected = true';
         document.body.append(script);
         document.body.insertAdjacentHTML('beforeend', '<i id=styled style=\"color: red\" onclick=\"window.injected = true\"></i>');
         document.getElementById('styled').click();
         return window.injected === undefined && document.getElementById('styled').style.color === '';",
    );
    assert_eq!(refused, true);
    assert!(browser.console().contains("Content Security Policy"), "{}", browser.console());
}
