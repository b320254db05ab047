//! The models that this browser keeps, and how others come there.

use js_sys::Array;
use leptos::prelude::*;
use web_sys::File;

use super::{Jobs, Models, Notices, Purpose};
use crate::models::{Kind, Pack};
use crate::protocol::{Lane, PackLocation, Task};

/// A model that is being brought into the storage.
struct Import {
    number: usize,
    name: String,
    location: PackLocation,
    files: Option<Array>,
}

/// What can be kept and removed.
#[derive(Clone, Copy)]
pub struct Library {
    models: Models,
    jobs: Jobs,
    notices: Notices,
    imports: StoredValue<Vec<Import>, LocalStorage>,
    begun: StoredValue<usize>,
}

impl Library {
    /// Nothing is under way.
    pub fn new(models: Models, jobs: Jobs, notices: Notices) -> Self {
        Self { models, jobs, notices, imports: StoredValue::new_local(Vec::new()), begun: StoredValue::new(0) }
    }

    /// The storage can be changed now.
    pub fn is_idle(&self) -> bool {
        self.jobs.are_idle(Lane::Storage)
    }

    /// A model is being brought into the storage.
    pub fn is_under_way(&self) -> bool {
        self.jobs.any(|purpose| matches!(purpose, Purpose::Import(_)))
    }

    /// Keeps and loads the model at an address: a pack, a Hugging Face folder or a GGUF file.
    pub fn import_address(&self, text: &str) {
        let base = document().base_uri().ok().flatten().unwrap_or_default();
        let url = web_sys::Url::new_with_base(text.trim(), &base).ok();
        let url = url.filter(|url| ["http:", "https:"].contains(&url.protocol().as_str()));
        let Some(url) = url.filter(|_| !text.trim().is_empty()) else {
            self.notices.show(format!("\"{}\" is no address of a model; it begins with https://.", text.trim()));
            return;
        };
        self.begin(name_of(&url.pathname()), PackLocation::Address(url.href()), None);
    }

    /// Keeps and loads the model in these files of this device: a folder's, or GGUF files. `folder` is the folder's
    /// name where the files do not say it.
    pub fn import_files(&self, files: Array, folder: Option<String>) {
        let files_of = || files.iter().filter_map(|file| wasm_bindgen::JsCast::dyn_into::<File>(file).ok());
        let gguf = files_of().map(|file| file.name()).find(|name| name.to_ascii_lowercase().ends_with(".gguf"));
        let named = || {
            let path = js_sys::Reflect::get(&files.get(0), &"webkitRelativePath".into()).ok()?.as_string()?;
            path.split_once('/').map(|(folder, _)| folder.to_string())
        };
        let name = gguf.or(folder).or_else(named).unwrap_or_else(|| "model".to_string());
        self.begin(name_of(&name), PackLocation::Files(0), Some(files));
    }

    fn begin(&self, name: String, location: PackLocation, files: Option<Array>) {
        let number = self.begun.get_value();
        self.begun.set_value(number + 1);
        self.notices.dismiss();
        let taken =
            |path: &str| self.models.library.with_untracked(|all| all.packs.iter().any(|pack| pack.path == path));
        let paths = (1..).map(|count| if count == 1 { name.clone() } else { format!("{name}-{count}") });
        let path = paths.into_iter().find(|path| !taken(path)).unwrap_or_else(|| name.clone());
        let task = Task::Import { name: name.clone(), path, location: location.clone() };
        let job = self.jobs.start_with(Purpose::Import(number), task, files.clone());
        self.models.expect(job, name.clone());
        self.imports.update_value(|imports| imports.push(Import { number, name, location, files }));
    }

    /// An import has ended.
    pub(super) fn end(&self, number: usize) {
        self.imports.update_value(|imports| imports.retain(|import| import.number != number));
    }

    /// The storage is full: the model is loaded from where it is, and that is said.
    pub(super) fn load_unkept(&self, number: usize) {
        let import = self.imports.try_update_value(|imports| {
            let at = imports.iter().position(|import| import.number == number)?;
            Some(imports.swap_remove(at))
        });
        let Some(Import { name, location, files, .. }) = import.flatten() else { return };
        let pack = Pack { name: name.clone(), path: name.clone(), kind: Kind::Chat, ..Pack::default() };
        self.models.load_at(pack, location, files, None);
        self.notices.show(format!("This browser's storage is full, so {name} is not kept; remove a model to keep it."));
    }

    /// Removes a model from the storage. One that is loaded stays loaded.
    pub fn forget(&self, path: String) {
        self.jobs.start(Purpose::Forget, Task::Forget { path });
    }
}

/// A name for a model, and for its folder in the storage, from its path: the last part, with plain characters only.
fn name_of(path: &str) -> String {
    const DESCRIPTIONS: [&str; 4] =
        ["manifest.json", "config.json", "model.safetensors", "model.safetensors.index.json"];
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && !DESCRIPTIONS.contains(part)).collect();
    let last = parts.last().copied().unwrap_or("model");
    let last = last.strip_suffix(".gguf").unwrap_or(last);
    let last = last.rsplit_once("-00001-of-").map_or(last, |(stem, _)| stem);
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = last.chars().map(plain).take(80).collect();
    if name.trim_matches(['.', '-']).is_empty() { "model".to_string() } else { name }
}
