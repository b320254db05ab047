//! Which models there are, and how they are loaded.

use leptos::prelude::*;

use super::{Phase, Session};
use crate::models::{Index, Kind, Pack};
use crate::protocol::{Loaded, Place, Progress, Request};

impl Session {
    /// The site's list of models has arrived, or has not.
    pub fn offer(&self, index: Result<Index, String>) {
        let index = index.unwrap_or_else(|message| {
            self.error.set(Some(message));
            Index::default()
        });
        self.offered.set_value(Some(index));
        self.settle();
    }

    /// Once both are known, the models of the site and of the storage make one list.
    pub(super) fn settle(&self) {
        let Some(stored) = self.stored.get_value() else { return };
        let Some(mut index) = self.offered.try_update_value(Option::take).flatten() else { return };
        index.models.extend(stored);
        let selected = self.selected.get_untracked();
        if !index.chat_models().any(|pack| pack.name == selected) {
            self.miss(&selected, &index);
            self.selected.set(index.chat_models().next().map(|pack| pack.name.clone()).unwrap_or_default());
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
            self.error.set(Some(format!("This site has no model \"{name}\"; choose one of those it has.")));
            self.autoload.set(false);
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

    /// Loads the selected models, the chat model first: a score head needs its trunk.
    pub fn load_selected(&self) {
        match untrack(|| (self.pack(), self.scorer_pack())) {
            (Some(pack), scorer) => {
                self.load(pack);
                self.scorer_follows.set_value(scorer.is_some());
            }
            (None, Some(scorer)) => self.load(scorer),
            (None, None) => {}
        }
    }

    /// Loads a score model, after its trunk when it is a head and there is none.
    pub fn load_scorer(&self, pack: Pack) {
        let trunk = if pack.kind == Kind::ScoreHead { untrack(|| self.beside(&pack)) } else { None };
        match trunk.filter(|_| self.loaded.with_untracked(Option::is_none)) {
            Some(trunk) => {
                self.selected_scorer.set(pack.name);
                self.load(trunk);
                self.scorer_follows.set_value(true);
            }
            None => self.load(pack),
        }
    }

    /// The chat model that will be there beside a score model: the one that is loaded, else a head's trunk.
    pub fn beside(&self, pack: &Pack) -> Option<Pack> {
        let loaded = self.loaded.with(|loaded| loaded.as_ref().map(|loaded| loaded.name.clone()));
        loaded.or(pack.trunk.clone()).and_then(|name| self.find(&name))
    }

    /// Loads a model in place of the one of its kind that is there.
    pub fn load(&self, pack: Pack) {
        let Some(place) = self.place(&pack) else { return };
        self.error.set(None);
        if pack.kind == Kind::Chat {
            self.loaded.set(None);
            self.speed.set(None);
            self.selected.set(pack.name.clone());
        } else {
            self.selected_scorer.set(pack.name.clone());
            self.forget_scores();
        }
        // A score head goes with the trunk it lies on.
        let on_trunk = self.scorer.with_untracked(|scorer| scorer.as_ref().is_some_and(|s| s.kind == Kind::ScoreHead));
        if pack.kind != Kind::Chat || on_trunk {
            self.scorer.set(None);
        }
        self.phase.set(Phase::Loading(pack.kind, Progress::default()));
        let device = self.device.get_untracked();
        self.send(&Request::Load { kind: pack.kind, name: pack.name, place, device });
    }

    /// Where the files of `pack` are; `None`, with an error, when its folder has no address.
    pub(super) fn place(&self, pack: &Pack) -> Option<Place> {
        if pack.stored {
            return Some(Place::Stored(pack.name.clone()));
        }
        let base = document().base_uri().ok().flatten().unwrap_or_default();
        match web_sys::Url::new_with_base(&format!("models/{}/", pack.path), &base) {
            Ok(url) => Some(Place::Site(url.href())),
            Err(_) => {
                self.error.set(Some(format!("The folder \"{}\" of the model has no address.", pack.path)));
                None
            }
        }
    }

    pub(super) fn receive_model(&self, loaded: Loaded) {
        self.heap_bytes.set(loaded.heap_bytes);
        let model = if loaded.kind == Kind::Chat { self.loaded } else { self.scorer };
        model.set(Some(loaded));
        let scorer = if self.scorer_follows.get_value() { untrack(|| self.scorer_pack()) } else { None };
        self.scorer_follows.set_value(false);
        match scorer {
            Some(scorer) => self.load(scorer),
            None => self.phase.set(Phase::Idle),
        }
    }

    pub(super) fn autoload_when_possible(&self) {
        let possible = self.phase.get_untracked() == Phase::Idle && self.index.with_untracked(Option::is_some);
        if possible && self.autoload.get_untracked() {
            self.autoload.set(false);
            self.load_selected();
        }
    }
}
