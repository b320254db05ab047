//! The page as a person sees it: its parts by their test ids.

use std::thread;

use serde_json::{Value, json};
use xtask::browser::screenshots;
use xtask::server::Fault;

use crate::shared_browser::SharedBrowser;
use crate::site::TestSite;
use crate::skip;

pub use xtask::browser::PATIENCE;

/// The page in a tab of its own, in a browser that keeps nothing of other tests.
///
/// The page reacts to a test some time later, so a test waits for what it expects, with the methods named `wait_for…`.
/// [`Page::text`] and the like read at once; use them only for what an earlier wait has ensured.
pub struct Page {
    /// The browser.
    pub browser: SharedBrowser,
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

impl Drop for Page {
    /// Whatever a test did with the page, the page's own policy must have allowed it.
    fn drop(&mut self) {
        if !thread::panicking() {
            let console = self.browser.console();
            assert!(!console.contains("Content Security Policy"), "{console}");
        }
    }
}

impl Page {
    /// Opens the page of `site` with a query such as `model=tiny&device=cpu&autoload=1`. `None`, after [`skip`], where
    /// there is no browser.
    pub fn open(site: TestSite, query: &str) -> Option<Self> {
        let browser = SharedBrowser::lend().map_err(|reason| skip("browser", &reason)).ok()?;
        let page = Self { browser, site };
        page.visit(query);
        Some(page)
    }

    /// Opens the page anew.
    pub fn visit(&self, query: &str) {
        self.browser.open(&self.site.page(query));
    }

    /// Opens the page at another address, of which the browser has kept nothing, with these faults of its site.
    pub fn open_anew(&mut self, faults: &[(&str, Fault)], query: &str) {
        self.site.serve_anew(faults);
        self.visit(query);
    }

    /// Where the page comes from.
    pub fn site(&self) -> &TestSite {
        &self.site
    }

    /// Waits until the page is in this state: `empty`, `recovering`, `loading`, `ready`, `answering` or `scoring`.
    ///
    /// # Panics
    /// When an error shows up meanwhile.
    pub fn wait_for(&self, state: &str) {
        self.browser.wait(state, PATIENCE, |_| {
            assert_eq!(self.error(), None, "while waiting for {state}");
            self.attribute("page", "data-state").filter(|seen| seen == state)
        });
    }

    /// The error that shows up.
    pub fn wait_for_error(&self) -> String {
        self.browser.wait("an error", PATIENCE, |_| self.error())
    }

    /// Waits until the last element with this test id has a text that fits, and returns it.
    pub fn wait_for_text(&self, id: &str, fits: impl Fn(&str) -> bool) -> String {
        self.browser.wait_for(id, PATIENCE, |_| match self.text(id) {
            Some(text) if fits(&text) => Ok(text),
            Some(text) => Err(format!("but {text:?}")),
            None => Err("and it is not there".to_string()),
        })
    }

    /// Waits until the texts of all elements with this test id are these.
    pub fn wait_for_texts(&self, id: &str, expected: &[&str]) {
        self.browser.wait_for(id, PATIENCE, |_| {
            let texts = self.texts(id);
            if texts == expected { Ok(()) } else { Err(format!("{expected:?} but {texts:?}")) }
        });
    }

    /// Waits until there are `count` elements with this test id and returns an attribute, which is a number, of each.
    pub fn wait_for_numbers(&self, id: &str, attribute: &str, count: usize) -> Vec<f32> {
        self.browser.wait_for(id, PATIENCE, |_| {
            let numbers = self.numbers(id, attribute);
            if numbers.len() == count { Ok(numbers) } else { Err(format!("{count} times but {numbers:?}")) }
        })
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

    /// Types a question, sends it and waits until it stands in the conversation.
    pub fn send(&self, question: &str) {
        let asked = self.texts("message-user").len();
        self.browser.type_text(&selector("composer"), question);
        self.click("send");
        self.browser.wait("the question", PATIENCE, |_| (self.texts("message-user").len() > asked).then_some(()));
    }

    /// Waits for the end of the current answer.
    pub fn wait_for_answer(&self) -> Answer {
        let tokens = self.browser.wait("an answer", PATIENCE, |_| {
            assert_eq!(self.error(), None, "while answering");
            self.attribute("message-assistant", "data-tokens")
        });
        Answer {
            text: self.answer_text(),
            token_ids: tokens
                .split(',')
                .filter(|id| !id.is_empty())
                .map(|id| id.parse().expect("a token id"))
                .collect(),
        }
    }

    /// The last answer as the model wrote it; the page shows it as Markdown.
    pub fn answer_text(&self) -> String {
        self.attribute("message-assistant", "data-text").unwrap_or_default()
    }

    /// Runs a script, the body of a function of the `element` that is at this place among those of a CSS selector, as soon as it
    /// is there.
    pub fn on(&self, selector: &str, place: usize, script: &str) -> Value {
        let script = format!(
            "const element = document.querySelectorAll({})[{place}];
             if (!element) return null;
             return {{ result: (() => {{ {script} }})() ?? null }};",
            json!(selector)
        );
        self.browser.wait(selector, PATIENCE, |browser| browser.evaluate(&script).get("result").cloned())
    }

    /// Clicks the element at this place among those with this test id.
    pub fn click_at(&self, id: &str, place: usize) {
        self.on(&selector(id), place, "element.click()");
    }

    /// What stands in the field with this test id.
    pub fn value(&self, id: &str) -> String {
        self.on(&selector(id), 0, "return element.value").as_str().unwrap_or_default().to_string()
    }

    /// Waits until this stands in the field with this test id.
    pub fn wait_for_value(&self, id: &str, expected: &str) {
        self.browser.wait_for(id, PATIENCE, |_| {
            let value = self.value(id);
            if value == expected { Ok(()) } else { Err(format!("{expected:?} but {value:?}")) }
        });
    }

    /// Puts `text` into a field at once, as pasting does.
    pub fn paste(&self, id: &str, text: &str) {
        let script = "element.dispatchEvent(new Event('input', { bubbles: true }))";
        self.on(&selector(id), 0, &format!("element.value = {}; {script}", json!(text)));
    }

    /// Presses a key in the element with this test id; `more` has other members of the event, as JSON.
    pub fn press(&self, id: &str, key: &str, more: &Value) {
        let script = format!(
            "const event = {{ key: {}, bubbles: true, cancelable: true, ...{more} }};
             element.dispatchEvent(new KeyboardEvent('keydown', event));",
            json!(key)
        );
        self.on(&selector(id), 0, &script);
    }

    /// Opens the menu of the conversation and chooses the item with this test id.
    pub fn choose(&self, item: &str) {
        self.click("chat-menu");
        self.click(item);
    }

    /// Waits until this browser keeps all that has been written and said.
    pub fn wait_until_kept(&self) {
        self.browser.wait("all kept", PATIENCE, |_| self.attribute("page", "data-kept").filter(|kept| kept == "true"));
    }

    /// Goes to the page `chat`, `score`, `data`, `runs` or `models` and waits until it is there: a click on a link only queues
    /// the event to which the page responds.
    pub fn go_to(&self, name: &str) {
        self.click(&format!("nav-{name}"));
        self.browser.wait(name, PATIENCE, |_| self.attribute(&format!("{name}-page"), "aria-label"));
    }

    /// Waits for the score of the last answer.
    pub fn wait_for_score(&self) -> f32 {
        self.browser.wait("a score", PATIENCE, |_| {
            assert_eq!(self.error(), None, "while scoring");
            self.attribute("message-score", "data-score")?.parse().ok()
        })
    }

    /// Gives the Score page a file to import and waits until it has been read.
    pub fn import(&self, lines: &str) {
        self.import_by("import", lines);
    }

    /// Gives the field with this test id a file and waits until it has been read: the page then empties the field.
    pub fn import_by(&self, id: &str, lines: &str) {
        let script = format!(
            "const files = new DataTransfer();
             files.items.add(new File([{}], 'lines.jsonl'));
             element.files = files.files;
             element.dispatchEvent(new Event('change', {{ bubbles: true }}));",
            json!(lines)
        );
        self.on(&selector(id), 0, &script);
        let files = format!("return document.querySelector({})?.files.length", json!(selector(id)));
        self.browser.wait("the import", PATIENCE, |browser| (browser.evaluate(&files) == 0).then_some(()));
    }

    /// Clicks the element with this test id and returns the text of the file that is then downloaded.
    pub fn download(&self, id: &str) -> String {
        self.browser.evaluate(
            "HTMLAnchorElement.prototype.click = function () {};
             URL.createObjectURL = blob => { window.downloaded = blob; return 'blob:'; };
             window.downloaded = null;",
        );
        self.click(id);
        let text = "const done = arguments[0];
            if (window.downloaded) window.downloaded.text().then(done); else done(null);";
        self.browser.wait(id, PATIENCE, |browser| browser.evaluate_async(text).as_str().map(str::to_string))
    }

    /// Bytes of the worker's heap, which never shrinks.
    pub fn heap_bytes(&self) -> u64 {
        self.browser.wait("the heap", PATIENCE, |_| {
            self.attribute("status-memory", "data-heap")?.parse().ok().filter(|bytes| *bytes > 0)
        })
    }

    /// Clicks the element with this test id.
    pub fn click(&self, id: &str) {
        self.browser.click(&selector(id));
    }

    /// Types into the first field with this test id.
    pub fn type_text(&self, id: &str, text: &str) {
        self.browser.type_text(&selector(id), text);
    }

    /// Sets a field or selection as if the person had changed it and gone on, as soon as it is there and enabled; a
    /// selection must have the value among its options.
    pub fn set(&self, id: &str, value: &str) {
        let script = format!(
            "const field = document.querySelector({});
             if (!field) return 'and it is not there';
             if (field.matches(':disabled')) return 'and it is disabled';
             const options = field.options && [...field.options].map(option => option.value);
             if (options && !options.includes({value})) return `but has only ${{options.join(', ')}}`;
             field.value = {value};
             field.dispatchEvent(new Event('change', {{ bubbles: true }}));
             return null;",
            json!(selector(id)),
            value = json!(value)
        );
        self.browser.wait_for(&format!("{id}: {value}"), PATIENCE, |browser| {
            browser.evaluate(&script).as_str().map_or(Ok(()), |obstacle| Err(obstacle.to_string()))
        });
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

    /// Takes pictures of desktop and phone, light and dark, into target/screenshots.
    ///
    /// # Panics
    /// When the page is wider than the screen.
    pub fn take_screenshots(&self, name: &str) {
        for (device, width, height, mobile) in [("desktop", 1280, 800, false), ("phone", 360, 780, true)] {
            for scheme in ["light", "dark"] {
                self.browser.set_viewport(width, height, mobile, scheme);
                self.browser.screenshot(&screenshots().join(format!("{name}-{device}-{scheme}.png")));
                let overflow = self.browser.evaluate("return document.documentElement.scrollWidth > window.innerWidth");
                assert_eq!(overflow, false, "{name} on {device} is wider than the screen");
            }
        }
        // What follows is done as on a desktop.
        self.browser.set_viewport(1280, 800, false, "light");
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
}

fn selector(id: &str) -> String {
    format!("[data-testid={id}]")
}
