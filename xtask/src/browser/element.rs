//! Elements of the page, clicked and typed into as a person does: once they are there, enabled, at rest and in sight.

use serde_json::{Value, json};

use super::{Browser, PATIENCE, Refusal};

/// WebDriver's own name for a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Passes `done` the element of a selector if a person could click it, else the reason why not.
const FIND: &str = "
    const [selector, done] = arguments;
    const element = document.querySelector(selector);
    if (!element) return done('it is not there');
    if (element.matches(':disabled')) return done('it is disabled');
    element.scrollIntoView({ block: 'nearest', inline: 'nearest', behavior: 'instant' });
    const place = () => element.getClientRects()[0];
    const before = place();
    if (!before) return done('it is hidden');
    requestAnimationFrame(() => requestAnimationFrame(() => {
        const after = place();
        if (!after || !element.isConnected) return done('it has gone');
        if (['x', 'y', 'width', 'height'].some(key => after[key] !== before[key])) return done('it moves');
        const hit = document.elementFromPoint(after.x + after.width / 2, after.y + after.height / 2);
        done(element.contains(hit) ? element : `it is covered by ${hit?.outerHTML.slice(0, 200)}`);
    }));";

/// Errors of WebDriver for an element that has changed since it was found.
const CHANGED: [&str; 3] = ["stale element reference", "element click intercepted", "element not interactable"];

impl Browser {
    /// Clicks the element of a CSS selector as soon as a person could: it is there, enabled, at rest and not covered.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub fn click(&self, selector: &str) {
        self.act(selector, |element| self.try_post(&format!("/element/{element}/click"), json!({})));
    }

    /// Replaces the text in the field of a CSS selector by typing `text`, as soon as a person could.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub fn type_text(&self, selector: &str, text: &str) {
        self.act(selector, |element| {
            self.try_post(&format!("/element/{element}/clear"), json!({}))?;
            self.try_post(&format!("/element/{element}/value"), json!({ "text": text }))
        });
    }

    /// Does something to an element that is ready for it.
    fn act(&self, selector: &str, action: impl Fn(&str) -> Result<Value, Refusal>) {
        self.wait_for(selector, PATIENCE, |browser| {
            let found = browser.post("/execute/async", json!({ "script": FIND, "args": [selector] }));
            let Some(element) = found[ELEMENT].as_str() else { return Err(found.to_string()) };
            match action(element) {
                Ok(_) => Ok(()),
                // The page was redrawn between our look and the action, which has therefore not happened.
                Err(Refusal { error, .. }) if CHANGED.contains(&error.as_str()) => Err(error),
                Err(Refusal { message, .. }) => panic!("{selector}: {message}"),
            }
        });
    }
}
