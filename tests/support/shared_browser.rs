//! Browsers that tests use one after the other: starting one takes as long as most tests.

use std::ops::Deref;
use std::sync::Mutex;
use std::thread;

use xtask::Result;
use xtask::browser::Browser;

/// Browsers that no test uses at the moment. They are closed when the process ends.
static IDLE: Mutex<Vec<Browser>> = Mutex::new(Vec::new());

/// A browser that is as good as new. When it is dropped, the next test may have it, unless this one has failed.
pub struct SharedBrowser(Option<Browser>);

impl SharedBrowser {
    /// A browser that no other test uses.
    ///
    /// # Errors
    /// As [`Browser::start`].
    pub fn lend() -> Result<Self> {
        let idle = IDLE.lock().expect("no panic while it was held").pop();
        idle.map_or_else(Browser::start, Ok).map(|browser| Self(Some(browser)))
    }
}

impl Deref for SharedBrowser {
    type Target = Browser;

    fn deref(&self) -> &Browser {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for SharedBrowser {
    fn drop(&mut self) {
        if let Some(mut browser) = self.0.take()
            && !thread::panicking()
        {
            browser.renew();
            IDLE.lock().expect("no panic while it was held").push(browser);
        }
    }
}
