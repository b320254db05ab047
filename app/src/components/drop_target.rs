//! Files that are dropped anywhere on the page.

use js_sys::{Array, Function, Promise, Reflect};
use leptos::prelude::*;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Element, Event, File};

use super::rail::go_to_chat;
use crate::data::opened::OpenedData;
use crate::dropped::{Dropped, classify};
use crate::file;
use crate::route::Page;
use crate::session::{History, Library, Notices};

/// Takes models and saved chats, and on the Data page files of data, and says so while files are dragged over the page. Fields
/// of files take their own.
#[component]
pub fn DropTarget(page: RwSignal<Page>) -> impl IntoView {
    let targets = (expect_context::<Library>(), expect_context::<History>(), expect_context::<OpenedData>());
    let notices = expect_context::<Notices>();
    let over = RwSignal::new(false);
    let listeners = ["dragover", "dragleave", "drop"].map(|kind| {
        window_event_listener_untyped(kind, move |event| {
            let transfer = get(&event, "dataTransfer");
            // Text that is dragged goes to where it always went.
            if !transfer.is_object() || !Array::from(&get(&transfer, "types")).includes(&"Files".into(), 0) {
                return;
            }
            let place = place(&event);
            // Of leaving one part for another, only the other is of interest.
            let stays = kind == "dragleave" && !get(&event, "relatedTarget").is_null();
            if !stays {
                over.set(kind == "dragover" && place == Place::Page);
            }
            if kind == "dragleave" || place == Place::Field {
                return;
            }
            // Otherwise the browser would leave the page for the file.
            event.prevent_default();
            if place == Place::Recovery {
                Reflect::set(&transfer, &"dropEffect".into(), &"none".into()).ok();
            } else if kind == "drop" {
                // The list is empty once the event is over.
                let items = items(&transfer);
                spawn_local(async move {
                    if let Err(sentence) = take(items, targets, page).await {
                        show(notices, page, sentence);
                    }
                });
            }
        })
    });
    on_cleanup(move || listeners.into_iter().for_each(|listener| listener.remove()));
    view! {
        <div class="drop-target" data-testid="drop-target" hidden=move || !over.get()>
            <p>{move || if page.get() == Page::Data { "Drop a file of data" } else { "Drop a model or a chat" }}</p>
        </div>
    }
}

/// Whose a drop is.
#[derive(PartialEq)]
enum Place {
    /// A field of files takes it by itself.
    Field,
    /// Between the fields of the recovery a drop would be a mistake.
    Recovery,
    /// It is the page's.
    Page,
}

fn place(event: &Event) -> Place {
    let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
    let within = |selector| target.as_ref().is_some_and(|target| target.closest(selector).ok().flatten().is_some());
    match (within("input[type=file]:enabled"), within(".recovery")) {
        (true, _) => Place::Field,
        (_, true) => Place::Recovery,
        _ => Place::Page,
    }
}

/// Brings a model into the storage and loads it, or opens chats or data.
async fn take(
    items: Vec<Item>,
    (library, history, data): (Library, History, OpenedData),
    page: RwSignal<Page>,
) -> Result<(), String> {
    let (mut files, mut folder) = (Vec::new(), None);
    for item in items {
        match item {
            Item::File(file) => files.push(file),
            Item::Folder(entry) => {
                files.extend(files_of(&entry).await.ok_or("The folder cannot be read; choose it under Models.")?);
                folder = get(&entry, "name").as_string();
            }
        }
    }
    let names: Vec<String> = files.iter().map(File::name).collect();
    let expects_data = page.get_untracked() == Page::Data;
    match classify(&names, expects_data) {
        Dropped::Model if !untrack(|| library.is_idle()) => {
            Err("Another model is being kept; drop this one again when that is done.".to_string())
        }
        Dropped::Model => {
            go_to(Page::Models, page);
            library.import_files(files.iter().collect(), folder);
            Ok(())
        }
        Dropped::Chats => {
            for file in &files {
                history.import(&file::text(file).await?)?;
            }
            go_to_chat(page);
            Ok(())
        }
        Dropped::Data => {
            files.into_iter().for_each(|file| data.open(file));
            Ok(())
        }
        Dropped::Other if expects_data => Err("One file of data is shown at a time; drop a single one.".to_string()),
        Dropped::Other => Err("This is neither a model nor a saved chat; drop a GGUF file, a folder of safetensors, or a chat saved as JSON or Markdown.".to_string()),
    }
}

/// Shows a sentence where it can be read: the Runs page has no place for it.
fn show(notices: Notices, page: RwSignal<Page>, sentence: String) {
    if page.get_untracked() == Page::Runs {
        go_to(Page::Models, page);
    }
    notices.show(sentence);
}

fn go_to(target: Page, page: RwSignal<Page>) {
    if page.get_untracked() != target {
        window().location().set_hash(target.fragment()).ok();
    }
}

/// One of the things that were dropped.
enum Item {
    File(File),
    /// A `FileSystemDirectoryEntry`.
    Folder(JsValue),
}

/// What was dropped. `DataTransferItem.webkitGetAsEntry` is how all browsers tell a folder from a file.
fn items(transfer: &JsValue) -> Vec<Item> {
    let item = |item: JsValue| {
        let entry = call(&item, "webkitGetAsEntry", &Array::new()).unwrap_or_default();
        if get(&entry, "isDirectory") == true {
            return Some(Item::Folder(entry));
        }
        call(&item, "getAsFile", &Array::new())?.dyn_into().ok().map(Item::File)
    };
    Array::from(&get(transfer, "items")).iter().filter_map(item).collect()
}

/// The files of a folder; those of folders in it are left out, as no model has any.
async fn files_of(folder: &JsValue) -> Option<Vec<File>> {
    let reader = call(folder, "createReader", &Array::new())?;
    let mut files = Vec::new();
    loop {
        // A reader gives some entries at a time, and none at the end.
        let entries = Array::from(&answer(&reader, "readEntries").await?);
        if entries.length() == 0 {
            return Some(files);
        }
        for entry in entries.iter().filter(|entry| get(entry, "isFile") == true) {
            files.push(answer(&entry, "file").await?.dyn_into().ok()?);
        }
    }
}

/// What a method gives to the first of the two functions that it is handed.
async fn answer(object: &JsValue, method: &str) -> Option<JsValue> {
    let promise = Promise::new(&mut |resolve, reject| {
        call(object, method, &Array::of2(&resolve, &reject));
    });
    JsFuture::from(promise).await.ok()
}

fn get(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or_default()
}

fn call(object: &JsValue, method: &str, arguments: &Array) -> Option<JsValue> {
    get(object, method).dyn_into::<Function>().ok()?.apply(object, arguments).ok()
}
