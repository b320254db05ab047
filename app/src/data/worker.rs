//! The worker that reads a file of data. Each file has its own, so that closing it gives its memory back.

use std::cell::RefCell;

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;
use web_sys::{DedicatedWorkerGlobalScope, File, FileReaderSync, MessageEvent};

use super::draw;
use super::file::DataFile;
use super::message::{Find, Told};

/// Starts to listen, and says so to the page.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        post(&Told::Refused(format!("Reading the file broke down ({panic}); choose another.")));
    }));
    let data = RefCell::new(None);
    let receive = Closure::<dyn Fn(MessageEvent)>::new(move |message: MessageEvent| {
        let told = match message.data().dyn_into::<File>() {
            Ok(file) => Some(match open(&file) {
                Ok((opened, told)) => {
                    data.replace(Some(opened));
                    told
                }
                Err(sentence) => Told::Refused(sentence),
            }),
            Err(text) => find(data.borrow().as_ref(), &text),
        };
        told.iter().for_each(post);
    });
    global().set_onmessage(Some(receive.as_ref().unchecked_ref()));
    receive.forget();
    post(&Told::Ready);
}

/// Reads a file. A worker may wait for that, and what then breaks down reaches the page.
fn open(file: &File) -> Result<(DataFile, Told), String> {
    let name = file.name();
    let buffer = FileReaderSync::new().and_then(|reader| reader.read_as_array_buffer(file));
    let buffer = buffer.map_err(|_| format!("{name} cannot be read; choose the file again."))?;
    let (data, figures) = DataFile::read(&name, &Uint8Array::new(&buffer).to_vec())?;
    Ok((data, Told::Opened(draw::figures(&name, &figures))))
}

/// Answers a [`Find`]; nothing before there is a file.
fn find(data: Option<&DataFile>, text: &JsValue) -> Option<Told> {
    let find: Find = serde_json::from_str(&text.as_string()?).ok()?;
    let (all, rows) = data?.find(&find);
    Some(Told::Found(draw::found(&find, all, rows)))
}

fn global() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

fn post(told: &Told) {
    // Neither can fail: what is told is plain data, and a text can always be posted.
    if let Ok(text) = serde_json::to_string(told) {
        global().post_message(&text.into()).ok();
    }
}
