//! Which models there are, and how they are loaded.

use leptos::prelude::*;

use super::preferences::Preferences;
use super::{Jobs, Machine, Notices, Purpose, Scoring};
use crate::models::{Index, Kind, Pack};
use crate::protocol::{JobId, Lane, Loaded, PackLocation, PreferredDevice, Progress, Task};

/// A running load or recovery.
#[derive(Debug, Clone, PartialEq)]
pub struct Download {
    /// Its job.
    pub job: JobId,
    /// The model's name.
    pub name: String,
    /// Its progress.
    pub progress: Progress,
}

/// The models of the site and of this browser, and those that are loaded.
#[derive(Clone, Copy)]
pub struct Models {
    /// The models that can be loaded; `None` while the list is on its way.
    pub index: RwSignal<Option<Index>>,
    /// The name of the chat model to load.
    pub selected: RwSignal<String>,
    /// The name of the score model to load beside it; empty for none.
    pub selected_scorer: RwSignal<String>,
    /// Where to load them.
    pub device: RwSignal<PreferredDevice>,
    /// Most tokens of a conversation with the next chat model, as far as it goes; `None` for the default.
    pub context: RwSignal<Option<usize>>,
    /// The choices with which the loaded chat model was loaded.
    pub loaded_for: RwSignal<Option<(PreferredDevice, Option<usize>)>>,
    /// The loaded chat model.
    pub loaded: RwSignal<Option<Loaded>>,
    /// The loaded score model.
    pub scorer: RwSignal<Option<Loaded>>,
    /// Running loads and recoveries, the oldest first.
    pub downloads: RwSignal<Vec<Download>>,
    /// The models in this browser's storage; `None` until the worker has looked.
    stored: StoredValue<Option<Vec<Pack>>>,
    /// The site's list, until the worker has looked into the storage.
    offered: StoredValue<Option<Index>>,
    /// Load the selected models as soon as possible.
    autoload: StoredValue<bool>,
    scoring: Scoring,
    jobs: Jobs,
    machine: Machine,
    notices: Notices,
}

impl Models {
    /// Those that the page's address names are selected, and loaded as soon as possible with `autoload`.
    pub fn new(
        (model, score): (Option<String>, Option<String>),
        device: PreferredDevice,
        autoload: bool,
        (scoring, jobs, machine, notices): (Scoring, Jobs, Machine, Notices),
    ) -> Self {
        Self {
            index: RwSignal::new(None),
            selected: RwSignal::new(model.unwrap_or_default()),
            selected_scorer: RwSignal::new(score.unwrap_or_default()),
            device: RwSignal::new(device),
            context: RwSignal::new(Preferences::read().context),
            loaded_for: RwSignal::new(None),
            loaded: scoring.conversation.loaded,
            scorer: RwSignal::new(None),
            downloads: RwSignal::default(),
            stored: StoredValue::new(None),
            offered: StoredValue::new(None),
            autoload: StoredValue::new(autoload),
            scoring,
            jobs,
            machine,
            notices,
        }
    }

    /// A model is being loaded.
    pub fn is_loading(&self) -> bool {
        self.jobs.any(|purpose| matches!(purpose, Purpose::Load(_)))
    }

    /// An answer or scores are being made, which can be stopped.
    pub fn is_busy(&self) -> bool {
        self.jobs.any(|purpose| matches!(purpose, Purpose::Answer(_) | Purpose::Score(_) | Purpose::Inspect(_)))
    }

    /// A model can be loaded now.
    pub fn can_load(&self) -> bool {
        self.jobs.are_idle(Lane::Models)
    }

    /// A question can be asked now.
    pub fn can_answer(&self) -> bool {
        self.can_load() && self.loaded.with(Option::is_some)
    }

    /// Answers can be scored now.
    pub fn can_score(&self) -> bool {
        self.can_load() && self.scorer.with(Option::is_some)
    }

    /// The site's list of models has arrived, or has not.
    pub fn offer(&self, index: Result<Index, String>) {
        let index = index.unwrap_or_else(|message| {
            self.notices.show(message);
            Index::default()
        });
        self.offered.set_value(Some(index));
        self.settle();
    }

    /// The models in the storage are these.
    pub(super) fn receive_stored(&self, packs: Vec<Pack>) {
        self.stored.set_value(Some(packs.clone()));
        self.settle();
        self.index.update(|index| {
            if let Some(index) = index {
                index.models.retain(|pack| !pack.stored);
                index.models.extend(packs);
            }
        });
    }

    /// Once both are known, the models of the site and of the storage make one list.
    fn settle(&self) {
        let Some(stored) = self.stored.get_value() else { return };
        let Some(mut index) = self.offered.try_update_value(Option::take).flatten() else { return };
        index.models.extend(stored);
        let selected = self.selected.get_untracked();
        if !index.chat_models().any(|pack| pack.name == selected) {
            self.miss(&selected, &index);
            let kept = Preferences::read().model;
            let chosen = index.chat_models().find(|pack| pack.name == kept).or(index.chat_models().next());
            self.selected.set(chosen.map(|pack| pack.name.clone()).unwrap_or_default());
        }
        let selected = self.selected_scorer.get_untracked();
        if !index.score_models().any(|pack| pack.name == selected) {
            self.miss(&selected, &index);
            self.selected_scorer.set(String::new());
        }
        self.index.set(Some(index));
        self.autoload_when_possible();
    }

    /// A link named a model that is not there.
    fn miss(&self, name: &str, index: &Index) {
        if !name.is_empty() && !index.models.is_empty() {
            self.notices.show(format!("This site has no model \"{name}\"; choose one of those it has."));
            self.autoload.set_value(false);
        }
    }

    pub(super) fn autoload_when_possible(&self) {
        let possible = untrack(|| self.can_load()) && self.index.with_untracked(Option::is_some);
        if possible && self.autoload.get_value() {
            self.autoload.set_value(false);
            self.load_selected();
        }
    }

    /// The chat model to load.
    pub fn pack(&self) -> Option<Pack> {
        self.find(&self.selected.get())
    }

    /// The score model to load beside it.
    pub fn scorer_pack(&self) -> Option<Pack> {
        self.find(&self.selected_scorer.get())
    }

    fn find(&self, name: &str) -> Option<Pack> {
        self.index.with(|index| index.as_ref()?.models.iter().find(|pack| pack.name == name).cloned())
    }

    /// Bytes that loading `pack` and the selected score model downloads; what is stored is here already.
    pub fn download_bytes(&self, pack: &Pack) -> u64 {
        let packs = [Some(pack.clone()), self.scorer_pack()].into_iter().flatten();
        packs.filter(|pack| !pack.stored).map(|pack| pack.bytes).sum()
    }

    /// Loads the selected models, the chat model first: a score head needs its trunk.
    pub fn load_selected(&self) {
        match untrack(|| (self.pack(), self.scorer_pack())) {
            (Some(pack), scorer) => self.load_then(pack, scorer),
            (None, Some(scorer)) => self.load(scorer),
            (None, None) => {}
        }
    }

    /// Loads a score model, after its trunk when it is a head and there is none.
    pub fn load_scorer(&self, pack: Pack) {
        let trunk = if pack.kind == Kind::ScoreHead { untrack(|| self.beside(&pack)) } else { None };
        match trunk.filter(|_| self.loaded.with_untracked(Option::is_none)) {
            Some(trunk) => {
                self.selected_scorer.set(pack.name.clone());
                self.load_then(trunk, Some(pack));
            }
            None => self.load(pack),
        }
    }

    /// The chat model that will be there beside a score model: the one that is loaded, else a head's trunk.
    pub fn beside(&self, pack: &Pack) -> Option<Pack> {
        let loaded = self.loaded.with(|loaded| loaded.as_ref().map(|loaded| loaded.name.clone()));
        loaded.or(pack.trunk.clone()).and_then(|name| self.find(&name))
    }

    /// Loads the chat model that is loaded, with what has been chosen since.
    pub fn load_again(&self) {
        let name = self.loaded.with_untracked(|loaded| loaded.as_ref().map(|loaded| loaded.name.clone()));
        if let Some(pack) = name.and_then(|name| untrack(|| self.find(&name))) {
            self.load(pack);
        }
    }

    /// Loads a model in place of the one of its kind that is there.
    pub fn load(&self, pack: Pack) {
        self.load_then(pack, None);
    }

    /// Loads a model, and then another.
    fn load_then(&self, pack: Pack, next: Option<Pack>) {
        let Some(location) = self.location(&pack) else { return };
        self.notices.dismiss();
        if pack.kind == Kind::Chat {
            self.loaded.set(None);
            self.machine.speed.set(None);
            self.selected.set(pack.name.clone());
        } else {
            self.selected_scorer.set(pack.name.clone());
            self.scoring.forget();
        }
        // A score head goes with the trunk it lies on.
        let on_trunk = self.scorer.with_untracked(|scorer| scorer.as_ref().is_some_and(|s| s.kind == Kind::ScoreHead));
        if pack.kind != Kind::Chat || on_trunk {
            self.scorer.set(None);
        }
        let (name, device, context) = (pack.name.clone(), self.device.get_untracked(), self.context.get_untracked());
        let job = self.jobs.start(Purpose::Load(next), Task::Load { kind: pack.kind, name, location, device, context });
        self.expect(job, pack.name);
    }

    /// Where the files of `pack` are; `None`, with an error, when its folder has no address.
    pub(super) fn location(&self, pack: &Pack) -> Option<PackLocation> {
        if pack.stored {
            return Some(PackLocation::Stored(pack.name.clone()));
        }
        let base = document().base_uri().ok().flatten().unwrap_or_default();
        match web_sys::Url::new_with_base(&format!("models/{}/", pack.path), &base) {
            Ok(url) => Some(PackLocation::Site(url.href())),
            Err(_) => {
                self.notices.show(format!("The folder \"{}\" of the model has no address.", pack.path));
                None
            }
        }
    }

    /// Shows the progress of a job that fetches the weights of `name`.
    pub(super) fn expect(&self, job: JobId, name: String) {
        self.downloads.update(|downloads| downloads.push(Download { job, name, progress: Progress::default() }));
    }

    /// Updates the progress of a job.
    pub(super) fn receive_progress(&self, job: JobId, progress: Progress) {
        self.machine.heap_bytes.set(progress.heap_bytes);
        self.downloads.update(|downloads| {
            if let Some(download) = downloads.iter_mut().find(|download| download.job == job) {
                // A short one says little of the connection.
                if progress.bytes == progress.total && progress.total > 1_000_000 {
                    Preferences::change(|kept| kept.rate = Some(progress.bytes_per_second));
                }
                download.progress = progress;
            }
        });
    }

    /// A job has ended, and its progress is no longer shown.
    pub(super) fn end_download(&self, job: JobId) {
        if self.downloads.with_untracked(|downloads| downloads.iter().any(|download| download.job == job)) {
            self.downloads.update(|downloads| downloads.retain(|download| download.job != job));
        }
    }

    pub(super) fn receive_loaded(&self, loaded: Loaded, next: Option<Pack>) {
        Preferences::change(|kept| {
            let name = if loaded.kind == Kind::Chat { &mut kept.model } else { &mut kept.score };
            name.clone_from(&loaded.name);
            (kept.device, kept.context) = (self.device.get_untracked(), self.context.get_untracked());
        });
        self.machine.heap_bytes.set(loaded.heap_bytes);
        if loaded.kind == Kind::Chat {
            self.loaded_for.set(Some((self.device.get_untracked(), self.context.get_untracked())));
        }
        let model = if loaded.kind == Kind::Chat { self.loaded } else { self.scorer };
        model.set(Some(loaded));
        if let Some(next) = next {
            self.load(next);
        }
    }

    /// A model is recovered and lies in the storage. It is loaded, unless the person has begun something else.
    pub(super) fn receive_recovered(&self, name: &str) {
        let stored = self.stored.get_value().unwrap_or_default();
        if let Some(pack) = stored.into_iter().find(|pack| pack.name == name).filter(|_| untrack(|| self.can_load())) {
            self.load(pack);
        }
    }

    /// The models on this kind's device are gone.
    pub(super) fn lose(&self, kind: Kind) {
        if matches!(kind, Kind::Chat | Kind::ScoreHead) {
            self.loaded.set(None);
        }
        if matches!(kind, Kind::Score | Kind::ScoreHead) {
            self.scorer.set(None);
        }
    }
}
