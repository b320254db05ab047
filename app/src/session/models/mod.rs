//! Which models there are, and how they are loaded.

mod list;

use js_sys::Array;
use leptos::prelude::*;

use super::preferences::Preferences;
use super::{Jobs, Machine, Notices, Purpose, Scoring};
use crate::models::{Index, Kind, Pack};
use crate::protocol::{JobId, Lane, Loaded, PackLocation, PreferredDevice, Progress, Stored, Task};
use list::address;

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
    /// The id of the chat model to load.
    pub selected: RwSignal<String>,
    /// The id of the score model to load beside it; empty for none.
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
    /// What this browser's storage holds.
    pub library: RwSignal<Stored>,
    /// The worker has looked into the storage.
    heard_of_storage: StoredValue<bool>,
    /// The names in the page's address, until models of these names are there.
    wanted: StoredValue<Option<String>>,
    wanted_scorer: StoredValue<Option<String>>,
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
            selected: RwSignal::default(),
            selected_scorer: RwSignal::default(),
            device: RwSignal::new(device),
            context: RwSignal::new(Preferences::read().context),
            loaded_for: RwSignal::new(None),
            loaded: scoring.conversation.loaded,
            scorer: RwSignal::new(None),
            downloads: RwSignal::default(),
            library: RwSignal::default(),
            heard_of_storage: StoredValue::new(false),
            wanted: StoredValue::new(model),
            wanted_scorer: StoredValue::new(score),
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

    pub(super) fn autoload_when_possible(&self) {
        let named = self.wanted.with_value(Option::is_none) && self.wanted_scorer.with_value(Option::is_none);
        let possible = named && untrack(|| self.can_load()) && self.index.with_untracked(Option::is_some);
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

    /// The model with this id.
    pub fn find(&self, id: &str) -> Option<Pack> {
        self.index.with(|index| index.as_ref()?.find(id).cloned())
    }

    /// Bytes that loading `pack` fetches: its own, and those of the trunk that a score head brings, as far as they are
    /// not kept.
    pub fn fetched_bytes(&self, pack: &Pack) -> u64 {
        let trunk = self.trunk(pack).filter(|_| self.loaded.with(Option::is_none));
        [Some(pack.clone()), trunk]
            .into_iter()
            .flatten()
            .filter(|pack| !self.is_kept(pack))
            .map(|pack| pack.bytes)
            .sum()
    }

    /// The chat model that the score head `pack` names.
    fn trunk(&self, pack: &Pack) -> Option<Pack> {
        let name = pack.trunk.as_ref()?;
        self.index.with(|index| index.as_ref()?.chat_models().find(|pack| pack.name == *name).cloned())
    }

    /// Bytes that loading `pack` and the selected score model downloads; what is kept is here already.
    pub fn download_bytes(&self, pack: &Pack) -> u64 {
        let packs = [Some(pack.clone()), self.scorer_pack()].into_iter().flatten();
        packs.filter(|pack| !self.is_kept(pack)).map(|pack| pack.bytes).sum()
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
                self.selected_scorer.set(pack.id());
                self.load_then(trunk, Some(pack));
            }
            None => self.load(pack),
        }
    }

    /// The chat model that will be there beside a score model: the one that is loaded, else a head's trunk.
    pub fn beside(&self, pack: &Pack) -> Option<Pack> {
        let loaded = self.loaded.with(|loaded| loaded.as_ref().map(|loaded| loaded.id.clone()));
        loaded.map_or_else(|| self.trunk(pack), |id| self.find(&id))
    }

    /// Loads the chat model that is loaded, with what has been chosen since.
    pub fn load_again(&self) {
        let id = self.loaded.with_untracked(|loaded| loaded.as_ref().map(|loaded| loaded.id.clone()));
        if let Some(pack) = id.and_then(|id| untrack(|| self.find(&id))) {
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
        if !pack.stored {
            persist();
        }
        self.load_at(pack, location, None, next);
    }

    /// Loads a model from where it is, and then another; `files` are those of a location on this device.
    pub(super) fn load_at(&self, pack: Pack, location: PackLocation, files: Option<Array>, next: Option<Pack>) {
        self.notices.dismiss();
        if pack.kind == Kind::Chat {
            self.loaded.set(None);
            self.machine.speed.set(None);
            self.selected.set(pack.id());
        } else {
            self.selected_scorer.set(pack.id());
            self.scoring.forget();
        }
        // A score head goes with the trunk it lies on.
        let on_trunk = self.scorer.with_untracked(|scorer| scorer.as_ref().is_some_and(|s| s.kind == Kind::ScoreHead));
        if pack.kind != Kind::Chat || on_trunk {
            self.scorer.set(None);
        }
        let (id, name, device) = (pack.id(), pack.name.clone(), self.device.get_untracked());
        let context = self.context.get_untracked();
        let task = Task::Load { kind: pack.kind, id, name, location, device, context };
        let job = self.jobs.start_with(Purpose::Load(next), task, files);
        self.expect(job, pack.name);
    }

    /// Where the files of `pack` are; `None`, with an error, when its folder has no address.
    pub(super) fn location(&self, pack: &Pack) -> Option<PackLocation> {
        if pack.stored {
            return Some(PackLocation::Stored(pack.path.clone()));
        }
        let address = address(pack);
        if address.is_none() {
            self.notices.show(format!("The folder \"{}\" of the model has no address.", pack.path));
        }
        address.map(PackLocation::Site)
    }

    /// Shows the progress of a job that fetches the weights of `name`.
    pub(super) fn expect(&self, job: JobId, name: String) {
        self.downloads.update(|downloads| downloads.push(Download { job, name, progress: Progress::default() }));
    }

    /// Shows the progress of a job that loads the chat model again.
    pub(super) fn expect_again(&self, job: JobId) {
        let known = self.downloads.with_untracked(|downloads| downloads.iter().any(|download| download.job == job));
        let name = self.loaded.with_untracked(|loaded| loaded.as_ref().map(|loaded| loaded.name.clone()));
        if let Some(name) = name.filter(|_| !known) {
            self.expect(job, name);
        }
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
        if loaded.unkept {
            self.notices.show(format!("This browser's storage is full, so {} is not kept and comes anew each time; remove a model under Models.", loaded.name));
        }
        if loaded.kind == Kind::Chat {
            self.loaded_for.set(Some((self.device.get_untracked(), self.context.get_untracked())));
        }
        let model = if loaded.kind == Kind::Chat { self.loaded } else { self.scorer };
        model.set(Some(loaded));
        if let Some(next) = next {
            self.load(next);
        }
    }

    /// A model in the storage is complete. It is loaded, unless the person has begun something else.
    pub(super) fn receive_kept(&self, kept: impl Fn(&Pack) -> bool) {
        let packs = self.library.with_untracked(|library| library.packs.clone());
        let pack = packs.into_iter().find(|pack| kept(pack)).filter(|_| untrack(|| self.can_load()));
        if let Some(pack) = pack.filter(|pack| pack.kind != Kind::Diff) {
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

/// Asks the browser not to clear the storage by itself. It may refuse, and then clears it only when the disk is full.
fn persist() {
    // The promise always succeeds; its value changes nothing here.
    drop(window().navigator().storage().persist());
}
