//! The file that is open on the Data page.

use leptos::prelude::*;
use wasm_bindgen::prelude::*;
use web_sys::{Event, File, Worker};

use super::message::{Find, Found, Told};
use crate::format;
use crate::link::heard;
use crate::markup::Markup;

/// The script that starts the worker; it lies beside the page.
const SCRIPT: &str = "data_start.js";
/// The bytes of the longest file that is read. Its rows and what is counted of them take several times as much.
const LONGEST: f64 = 500e6;

/// How far the file has been read.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// There is no file.
    Nothing,
    /// It is being read.
    UnderWay,
    /// It has been read; what is in it.
    Done(Vec<Markup>),
    /// It cannot be read; why, as a sentence.
    Refused(String),
}

/// The file and what is looked for in it. Copies share their state.
#[derive(Clone, Copy)]
pub struct OpenedData {
    /// The file's name.
    pub name: RwSignal<String>,
    /// How far it has been read.
    pub reading: RwSignal<Reading>,
    /// Which rows are looked for.
    pub find: RwSignal<Find>,
    /// The rows that were found last.
    pub found: RwSignal<Option<Found>>,
    worker: StoredValue<Option<Worker>, LocalStorage>,
    /// What the worker looks for now.
    sought: StoredValue<Option<Find>>,
}

impl Default for OpenedData {
    /// There is no file yet.
    fn default() -> Self {
        Self {
            name: RwSignal::new(String::new()),
            reading: RwSignal::new(Reading::Nothing),
            find: RwSignal::new(Find::default()),
            found: RwSignal::new(None),
            worker: StoredValue::new_local(None),
            sought: StoredValue::new(None),
        }
    }
}

impl OpenedData {
    /// Opens a file in place of the one before.
    pub fn open(&self, file: File) {
        self.close();
        self.name.set(file.name());
        self.find.set(Find::default());
        self.found.set(None);
        self.sought.set_value(None);
        self.reading.set(Reading::UnderWay);
        if file.size() > LONGEST {
            let [size, most] = [file.size(), LONGEST].map(|bytes| format::bytes(bytes as u64));
            return self.refuse(format!(
                "{} has {size}, and the page reads {most} at most; `paddock instruct stats` reads it.",
                file.name()
            ));
        }
        let Ok(worker) = Worker::new(SCRIPT) else {
            return self
                .refuse("This browser starts no workers for this page; open it over http or https.".to_string());
        };
        let data = *self;
        let hear = Closure::<dyn Fn(Event)>::new(move |event| data.receive(&event, &file));
        worker.set_onmessage(Some(hear.as_ref().unchecked_ref()));
        worker.set_onerror(Some(hear.as_ref().unchecked_ref()));
        hear.forget();
        self.worker.set_value(Some(worker));
    }

    /// Looks for other rows.
    pub fn look(&self, change: impl FnOnce(&mut Find)) {
        self.find.update(change);
        self.ask();
    }

    fn receive(&self, event: &Event, file: &File) {
        let told = match heard(event) {
            Ok(text) => serde_json::from_str(&text).ok(),
            Err(Some(problem)) => Some(Told::Refused(format!(
                "Reading {} broke down ({problem}); the tab may have too little memory for it, so choose a part of it.",
                file.name()
            ))),
            Err(None) => Some(Told::Refused(format!(
                "The file cannot be read, because {SCRIPT} of this page cannot be loaded. Reload the page; if that does \
                 not help, tell whoever runs this site."
            ))),
        };
        match told {
            Some(Told::Ready) => self.post(file),
            Some(Told::Opened(opened)) => {
                self.reading.set(Reading::Done(opened));
                self.ask();
            }
            Some(Told::Found(found)) => {
                let sought = self.sought.try_update_value(Option::take).flatten();
                self.found.set(Some(found));
                // Meanwhile more may have been typed.
                if sought != Some(self.find.get_untracked()) {
                    self.ask();
                }
            }
            Some(Told::Refused(sentence)) => self.refuse(sentence),
            None => {}
        }
    }

    /// Asks the worker for the rows, unless it looks for some already.
    fn ask(&self) {
        let is_open = self.reading.with_untracked(|reading| matches!(reading, Reading::Done(_)));
        if !is_open || self.sought.with_value(Option::is_some) {
            return;
        }
        let find = self.find.get_untracked();
        if let Ok(text) = serde_json::to_string(&find) {
            self.sought.set_value(Some(find));
            self.post(&text.into());
        }
    }

    fn post(&self, message: &JsValue) {
        self.worker.with_value(|worker| worker.as_ref().map(|worker| worker.post_message(message).ok()));
    }

    fn refuse(&self, sentence: String) {
        self.close();
        self.reading.set(Reading::Refused(sentence));
    }

    /// Ends the worker. What it has said but the page has not heard is of no interest any more.
    fn close(&self) {
        if let Some(worker) = self.worker.try_update_value(Option::take).flatten() {
            worker.set_onmessage(None);
            worker.set_onerror(None);
            worker.terminate();
        }
    }
}
