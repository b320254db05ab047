//! Pictures of every page for docs/screens, which `cargo xtask screens` makes.

use std::env;
use std::path::{Path, PathBuf};

use paddock_tests::page::Page;
use paddock_tests::site::TestSite;
use paddock_tests::smollm2;
use serde_json::json;

use crate::data::open_instructions;
use crate::runs::serve_run;

const SCREENS: [(&str, u32, u32, bool); 2] = [("desktop", 1280, 800, false), ("phone", 390, 844, true)];

/// Takes pictures on both screens and in both schemes.
///
/// # Panics
/// When the page is wider than the screen.
fn picture(page: &Page, folder: &Path, name: &str) {
    picture_of(page, folder, name, "body");
}

/// As [`picture`], from the element of a CSS selector on.
fn picture_of(page: &Page, folder: &Path, name: &str, selector: &str) {
    for (screen, width, height, mobile) in SCREENS {
        for scheme in ["light", "dark"] {
            page.browser.set_viewport(width, height, mobile, scheme);
            page.on(selector, 0, "element.scrollIntoView()");
            let overflow = page.browser.evaluate("return document.documentElement.scrollWidth > window.innerWidth");
            assert_eq!(overflow, false, "{name} on {screen} is wider than the screen");
            page.browser.picture(&folder.join(format!("{name}-{screen}-{scheme}.webp")));
        }
    }
    page.browser.set_viewport(1280, 800, false, "light");
}

#[test]
fn every_page_is_pictured() {
    let Some(folder) = env::var_os("PADDOCK_SCREENS").map(PathBuf::from) else { return };
    let Some(model) = smollm2() else { return };
    let name = "SmolLM2-135M-Instruct";
    let Some(site) = TestSite::start(&[(name, &model)], &[]) else { return };
    serve_run(&site, "ppo");
    serve_run(&site, "reward");
    let Some(page) = Page::open(site, "device=cpu") else { return };
    page.browser.set_viewport(1280, 800, false, "light");
    page.wait_for("empty");
    picture(&page, &folder, "first-visit");
    page.click("load-button");
    page.wait_for("ready");
    page.browser.evaluate("document.activeElement.blur()");
    picture(&page, &folder, "ready");
    page.click("options-button");
    picture(&page, &folder, "settings");
    page.click_at("preset", 1);
    page.set("option-max-tokens", "160");
    page.click("options-close");
    page.ask("Name three fruits.");
    page.ask("Write a Python function that says hello.");
    page.wait_until_kept();
    for question in ["Explain why the sky is blue", "A packing list for a hike", "Words that rhyme with paddock"] {
        let turn = json!({ "id": 0, "question": question, "answer": "…", "finish_reason": "stop", "model": name });
        let chat = json!({ "turns": [turn], "changed": 1 });
        let chats = json!({ "format": "paddock-chats", "version": 1, "chats": [chat] });
        page.import_by("import-chats", &chats.to_string());
        page.wait_for_texts("message-user", &[question]);
    }
    page.click_at("chat", 0);
    page.wait_for_text("chat-title", |title| title == "Name three fruits.");
    page.browser.evaluate("document.activeElement.blur()");
    picture(&page, &folder, "chat");
    page.browser.evaluate("[...document.querySelectorAll('[data-testid=look]')].at(-1).click()");
    page.wait_for_text("token-readout", |readout| readout.contains("bits"));
    page.click_at("looked-at", 3);
    picture(&page, &folder, "tokens");
    page.browser.set_viewport(390, 844, true, "light");
    page.click("rail-button");
    for scheme in ["light", "dark"] {
        page.browser.set_viewport(390, 844, true, scheme);
        page.browser.picture(&folder.join(format!("chats-phone-{scheme}.webp")));
    }
    page.browser.set_viewport(1280, 800, false, "light");
    for name in ["score", "data", "runs", "models"] {
        page.go_to(name);
        if name == "data" {
            open_instructions(&page);
            picture_of(&page, &folder, name, "#data-verbs");
        } else {
            picture(&page, &folder, name);
        }
    }
    for (name, run, shown) in
        [("panels", "ppo", "chart-reward"), ("answers", "ppo", "answers-order"), ("scores", "reward", "distribution")]
    {
        page.visit(&format!("run=models/{run}/metrics.jsonl#runs"));
        page.wait_for_text("chart-loss", |text| !text.is_empty());
        if name == "answers" {
            page.click("answers-show");
            page.wait_for_text("answers-state-right", |text| text.contains("shown"));
        }
        picture_of(&page, &folder, name, &format!("[data-testid={shown}]"));
    }
}
