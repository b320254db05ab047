//! The page as a person sees it: its parts by their test ids.

use std::time::Duration;

use serde_json::{Value, json};
use xtask::browser::{Browser, screenshots};

use crate::site::TestSite;
use crate::skip;

/// Long enough for a model on a slow machine; a page that hangs is found out all the same.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The page in a browser of its own.
pub struct Page {
    /// The browser.
    pub browser: Browser,
    site: TestSite,
}

/// An answer that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What the page shows.
    pub text: String,
    /// The tokens it is made of.
    pub token_ids: Vec<u32>,
}

impl Page {
    /// Opens the page of `site` with a query such as `model=tiny&device=cpu&autoload=1`. `None`, after [`skip`], where
    /// there is no browser.
    pub fn open(site: TestSite, query: &str) -> Option<Self> {
        let browser = Browser::start().map_err(|reason| skip("browser", &reason)).ok()?;
        let page = Self { browser, site };
        page.visit(query);
        Some(page)
    }

    /// Opens the page anew.
    pub fn visit(&self, query: &str) {
        self.browser.open(&self.site.page(query));
    }

    /// Where the page comes from.
    pub fn site(&self) -> &TestSite {
        &self.site
    }

    /// Waits until the page is in this state: `empty`, `loading`, `ready`, `answering` or `scoring`.
    ///
    /// # Panics
    /// When an error shows up meanwhile.
    pub fn wait_for(&self, state: &str) {
        let seen = self.browser.wait(state, PATIENCE, |_| {
            let error = self.error();
            error
                .is_some()
                .then_some(error)
                .or_else(|| (self.attribute("page", "data-state")? == state).then_some(None))
        });
        assert_eq!(seen, None, "while waiting for {state}");
    }

    /// The error that shows up.
    pub fn wait_for_error(&self) -> String {
        self.browser.wait("an error", PATIENCE, |_| self.error())
    }

    /// Answers are greedy from now on and at most `max_tokens` long; the conversation is written by `template`.
    pub fn set_greedy(&self, template: &str, max_tokens: usize) {
        self.click("options-button");
        self.set("template-select", template);
        self.set("option-temperature", "0");
        self.set("option-repetition-penalty", "1");
        self.set("option-max-tokens", &max_tokens.to_string());
        self.click("options-close");
    }

    /// Types a question, sends it and waits for the answer's end.
    pub fn ask(&self, question: &str) -> Answer {
        self.send(question);
        self.wait_for_answer()
    }

    /// Types a question and sends it.
    pub fn send(&self, question: &str) {
        self.browser.type_text(&selector("composer"), question);
        self.click("send");
    }

    /// Waits for the end of the answer under way.
    pub fn wait_for_answer(&self) -> Answer {
        let tokens = self.browser.wait("an answer", PATIENCE, |_| {
            assert_eq!(self.error(), None, "while answering");
            self.attribute("message-assistant", "data-tokens")
        });
        Answer {
            text: self.text("message-assistant").unwrap_or_default(),
            token_ids: tokens
                .split(',')
                .filter(|id| !id.is_empty())
                .map(|id| id.parse().expect("a token id"))
                .collect(),
        }
    }

    /// Goes to the page `chat`, `score`, `runs` or `models`.
    pub fn go_to(&self, name: &str) {
        self.click(&format!("nav-{name}"));
    }

    /// Waits for the score of the last answer.
    pub fn wait_for_score(&self) -> f32 {
        self.browser.wait("a score", PATIENCE, |_| {
            assert_eq!(self.error(), None, "while scoring");
            self.attribute("message-score", "data-score")?.parse().ok()
        })
    }

    /// Gives the Score page a file to import.
    pub fn import(&self, lines: &str) {
        self.browser.evaluate(&format!(
            "const files = new DataTransfer();
             files.items.add(new File([{}], 'lines.jsonl'));
             const field = document.querySelector({});
             field.files = files.files;
             field.dispatchEvent(new Event('change', {{ bubbles: true }}));",
            json!(lines),
            json!(selector("import"))
        ));
    }

    /// Clicks what has this test id and gives the text of the file that is then downloaded.
    pub fn download(&self, id: &str) -> String {
        self.browser.evaluate(
            "HTMLAnchorElement.prototype.click = function () {};
             URL.createObjectURL = blob => { window.downloaded = blob; return 'blob:'; };",
        );
        self.click(id);
        let text = self.browser.evaluate_async("window.downloaded.text().then(arguments[0]);");
        text.as_str().expect("a downloaded text").to_string()
    }

    /// Bytes of the worker's heap, which never shrinks.
    pub fn heap_bytes(&self) -> u64 {
        let heap = self.attribute("status-memory", "data-heap").expect("the heap in the status line");
        heap.parse().expect("a number of bytes")
    }

    /// Clicks what has this test id.
    pub fn click(&self, id: &str) {
        self.browser.click(&selector(id));
    }

    /// Types into the first field with this test id.
    pub fn type_text(&self, id: &str, text: &str) {
        self.browser.type_text(&selector(id), text);
    }

    /// The texts of all elements with this test id.
    pub fn texts(&self, id: &str) -> Vec<String> {
        self.of_all(id, "textContent")
    }

    /// An attribute, which is a number, of all elements with this test id.
    pub fn numbers(&self, id: &str, attribute: &str) -> Vec<f32> {
        let values = self.of_all(id, &format!("getAttribute({})", json!(attribute)));
        values.iter().map(|value| value.parse().expect("a number")).collect()
    }

    /// The text of the last element with this test id, white space and all.
    pub fn text(&self, id: &str) -> Option<String> {
        self.of_last(id, "textContent")
    }

    /// An attribute of the last element with this test id.
    pub fn attribute(&self, id: &str, name: &str) -> Option<String> {
        self.of_last(id, &format!("getAttribute({})", json!(name)))
    }

    /// Pictures of desktop and phone, light and dark, below target/screenshots.
    ///
    /// # Panics
    /// When something sticks out sideways.
    pub fn take_screenshots(&self, name: &str) {
        for (device, width, height, mobile) in [("desktop", 1280, 800, false), ("phone", 360, 780, true)] {
            for scheme in ["light", "dark"] {
                self.browser.set_viewport(width, height, mobile, scheme);
                self.browser.screenshot(&screenshots().join(format!("{name}-{device}-{scheme}.png")));
                let overflow = self.browser.evaluate("return document.documentElement.scrollWidth > window.innerWidth");
                assert_eq!(overflow, false, "{name} on {device} is wider than the screen");
            }
        }
    }

    fn error(&self) -> Option<String> {
        self.text("error")
    }

    fn of_all(&self, id: &str, member: &str) -> Vec<String> {
        let elements = format!("[...document.querySelectorAll({})]", json!(selector(id)));
        let values = self.browser.evaluate(&format!("return {elements}.map(element => element.{member})"));
        serde_json::from_value(values).expect("texts")
    }

    fn of_last(&self, id: &str, member: &str) -> Option<String> {
        let elements = format!("[...document.querySelectorAll({})]", json!(selector(id)));
        let value = self.browser.evaluate(&format!("return {elements}.at(-1)?.{member} ?? null"));
        value.as_str().map(str::to_string)
    }

    /// Sets a field or selection as if the person had changed it and gone on.
    pub fn set(&self, id: &str, value: &str) {
        let found: Value = self.browser.evaluate(&format!(
            "const field = document.querySelector({});
             if (!field) return false;
             field.value = {};
             field.dispatchEvent(new Event('change', {{ bubbles: true }}));
             return true;",
            json!(selector(id)),
            json!(value)
        ));
        assert_eq!(found, true, "the page has no {id}");
    }
}

fn selector(id: &str) -> String {
    format!("[data-testid={id}]")
}
