//! A page of which a file is missing, and one that is opened in a way in which it cannot run.

use std::path::Path;

use paddock_tests::page::{PATIENCE, Page};
use paddock_tests::site::TestSite;
use paddock_tests::skip;
use xtask::browser::Browser;
use xtask::server::Fault;
use xtask::workspace;

/// The page, of which nothing is missing yet.
fn page() -> Option<Page> {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-mha");
    Page::open(TestSite::start(&[("tiny", &tiny)], &[])?, "")
}

/// Opens the page at an address where this file is missing, and was never there.
fn open_without(page: &mut Page, file: &str) {
    page.open_anew(&[(file, Fault::Missing)], "");
}

/// The worker does not start: a sentence names the file and what to do, and nothing waits for ever.
fn worker_fails(page: &mut Page, file: &str) {
    open_without(page, file);
    let sentence = page.wait_for_error();
    assert!(sentence.contains(file) && sentence.contains("Reload the page"), "{sentence}");
    for word in ["panicked", "undefined", "JsValue", "\n"] {
        assert!(!sentence.contains(word), "{sentence}");
    }
    page.click("dismiss");
    page.wait_for_texts("status-state", &["Not running"]);
    page.browser.wait("no button", PATIENCE, |_| page.attribute("load-button", "disabled"));
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
fn a_missing_file_of_the_worker_is_one_sentence() {
    let Some(mut page) = page() else { return };
    for file in ["worker_start.js", "worker.js", "worker_bg.wasm"] {
        worker_fails(&mut page, file);
    }
}

/// Nothing else of the page needs them.
#[test]
fn a_missing_file_of_the_data_page_is_one_sentence() {
    let Some(mut page) = page() else { return };
    for file in ["data_start.js", "data.js", "data_bg.wasm"] {
        open_without(&mut page, &format!("/{file}"));
        page.wait_for("empty");
        page.go_to("data");
        page.import_by("data-file", r#"{"prompt":"Add.","completion":"1"}"#);
        let sentence = page.wait_for_text("data-problem", |sentence| sentence.contains(file));
        assert!(sentence.contains("Reload the page") && !sentence.contains('\n'), "{sentence}");
        assert_eq!(page.text("error"), None);
    }
}

#[test]
fn a_missing_file_of_the_page_is_one_sentence() {
    let Some(mut page) = page() else { return };
    for file in ["app.js", "app_bg.wasm"] {
        open_without(&mut page, file);
        page_fails(&page.browser, &[file, "Reload the page"]);
    }
}

#[test]
fn a_page_without_its_first_script_says_so_after_a_while() {
    let Some(mut page) = page() else { return };
    open_without(&mut page, "/start.js");
    // The advice comes after twenty seconds, most of which are skipped here.
    let hidden = page.browser.evaluate(
        "const [late] = document.getAnimations();
         late.currentTime = 0;
         const { visibility } = getComputedStyle(document.querySelector('#start span'));
         late.currentTime = 19_500;
         return visibility === 'hidden';",
    );
    assert_eq!(hidden, true);
    let shown = "return getComputedStyle(document.querySelector('#start span')).visibility === 'visible'";
    page.browser.wait("the advice", PATIENCE, |browser| (browser.evaluate(shown) == true).then_some(()));
    assert!(page.text("start").is_some_and(|text| text.contains("start.js") && text.contains("Reload the page")));
}

/// What is not code is missed by the eye alone; no file of the page is without a test here.
#[test]
fn a_page_without_a_style_sheet_or_picture_works() {
    const CODE: [&str; 10] = [
        "index.html",
        "app.js",
        "app_bg.wasm",
        "worker.js",
        "worker_bg.wasm",
        "worker_start.js",
        "start.js",
        "data_start.js",
        "data.js",
        "data_bg.wasm",
    ];
    let Ok(files) = std::fs::read_dir(workspace::dist()) else {
        return skip("browser", "dist/ holds no built page (`cargo xtask test` builds it)");
    };
    let Some(mut page) = page() else { return };
    for entry in files {
        let name = entry.expect("a file").file_name().into_string().expect("a name");
        if CODE.contains(&name.as_str()) {
            continue;
        }
        open_without(&mut page, &format!("/{name}"));
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

/// A worker that waits for the storage while its page goes takes the tab down in Chromium 156.
#[test]
fn a_page_that_is_left_ends_its_worker_and_comes_back_whole() {
    let Some(page) = page() else { return };
    page.visit("model=tiny&device=cpu&autoload=1");
    page.wait_for("ready");
    page.browser.evaluate(
        "const end = Worker.prototype.terminate;
         Worker.prototype.terminate = function () {
             sessionStorage.ended = 'yes';
             end.call(this);
         };",
    );
    page.browser.open(&page.site().page("").replace("?", "icon.svg?"));
    assert_eq!(page.browser.evaluate("return sessionStorage.ended"), "yes");
    page.browser.evaluate("history.back()");
    page.wait_for("ready");
    page.ask("Hello");
}
