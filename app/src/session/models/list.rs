//! The list of models: those of the site, and those that only this browser has.

use leptos::prelude::*;

use super::Models;
use crate::models::{Index, Pack};
use crate::protocol::Stored;
use crate::session::preferences::Preferences;

impl Models {
    /// The site's list of models has arrived, or has not.
    pub fn offer(&self, index: Result<Index, String>) {
        let index = index.unwrap_or_else(|message| {
            // Without a connection, what is kept will do.
            if self.library.with_untracked(|library| library.packs.is_empty()) {
                self.notices.show(message);
            }
            Index::default()
        });
        self.index.set(Some(index));
        self.merge();
    }

    /// What the storage holds.
    pub(in crate::session) fn receive_stored(&self, stored: Stored) {
        self.heard_of_storage.set_value(true);
        self.library.set(stored);
        self.merge();
    }

    /// Makes one list of the models of the site and those that are only in the storage.
    fn merge(&self) {
        if self.index.with_untracked(Option::is_none) {
            return;
        }
        let stored = self.library.with_untracked(|library| library.packs.clone());
        self.index.update(|index| {
            if let Some(index) = index {
                index.models.retain(|pack| !pack.stored);
                let site: Vec<String> = index.models.iter().filter_map(address).collect();
                let own = |pack: &Pack| !pack.source.as_ref().is_some_and(|source| site.contains(source));
                index.models.extend(stored.into_iter().filter(|pack| pack.present_bytes.is_none() && own(pack)));
            }
        });
        self.settle();
    }

    /// A model of the site that lies in the storage, so that loading it fetches nothing.
    pub fn is_kept(&self, pack: &Pack) -> bool {
        let address = if pack.stored { return true } else { address(pack) };
        let is_it = |kept: &Pack| kept.present_bytes.is_none() && kept.source == address;
        self.library.with(|library| library.packs.iter().any(is_it))
    }

    /// Selects what the page's address names, as soon as it is there, or the first chat model.
    fn settle(&self) {
        let complete = self.heard_of_storage.get_value();
        let Some(index) = self.index.get_untracked() else { return };
        let chat: Vec<&Pack> = index.chat_models().collect();
        let last = Preferences::read().model;
        let first = chat.iter().find(|pack| pack.name == last).or(chat.first()).map(|pack| pack.id());
        let first = first.unwrap_or_default();
        self.select(&self.wanted, self.selected, &chat, first, complete);
        let scorers: Vec<&Pack> = index.score_models().collect();
        self.select(&self.wanted_scorer, self.selected_scorer, &scorers, String::new(), complete);
        self.autoload_when_possible();
    }

    /// Selects the model that `wanted` names, or keeps what is selected, if it is there; else `default`.
    fn select(
        &self,
        wanted: &StoredValue<Option<String>>,
        selected: RwSignal<String>,
        packs: &[&Pack],
        default: String,
        complete: bool,
    ) {
        let name = wanted.get_value();
        let found = packs.iter().find(|pack| Some(&pack.name) == name.as_ref() || Some(pack.id()) == name);
        if let Some(pack) = found {
            wanted.set_value(None);
            selected.set(pack.id());
        } else if !packs.iter().any(|pack| pack.id() == selected.get_untracked()) {
            selected.set(default);
        }
        if let Some(name) = name.filter(|_| found.is_none() && complete) {
            wanted.set_value(None);
            // A site without a list has said so already.
            if !packs.is_empty() {
                self.notices.show(format!("This site has no model \"{name}\"; choose one of those it has."));
            }
            self.autoload.set_value(false);
        }
    }
}

/// The address of a site's pack: that of its folder, with a slash at its end.
pub(super) fn address(pack: &Pack) -> Option<String> {
    let base = document().base_uri().ok().flatten().unwrap_or_default();
    web_sys::Url::new_with_base(&format!("models/{}/", pack.path), &base).ok().map(|url| url.href())
}
