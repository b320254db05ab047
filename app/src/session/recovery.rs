//! Recovering a model from its base and a weight diff, and the models that lie in the storage.

use js_sys::Array;
use leptos::prelude::*;

use super::{Phase, Session};
use crate::models::{Kind, Pack};
use crate::protocol::{Place, Progress, Request};

/// A base or a diff, as the person chose it.
#[derive(Clone)]
pub enum Chosen {
    /// One of the list.
    Listed(Pack),
    /// The files of a folder.
    Folder(Array),
}

impl Session {
    /// Recovers the model `name` into the storage; it is loaded when it is there.
    pub fn recover(&self, name: String, base: &Chosen, diff: &Chosen, quantize: String) {
        let mut folders = Vec::new();
        let mut place = |chosen: &Chosen| match chosen {
            Chosen::Listed(pack) => self.place(pack),
            Chosen::Folder(files) => {
                folders.push(files.clone());
                Some(Place::Files(folders.len() - 1))
            }
        };
        let (Some(base), Some(diff)) = (place(base), place(diff)) else { return };
        self.error.set(None);
        // The device's memory is for the recovered model.
        self.selected.set(name.clone());
        self.phase.set(Phase::Loading(Kind::Chat, Progress::default()));
        let request = Request::Recover { name, base, diff, quantize };
        self.link.with_value(|link| link.inspect(|link| link.send_with(&request, folders)));
    }

    /// Removes a model from the storage.
    pub fn forget(&self, name: String) {
        self.send(&Request::Forget { name });
    }

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

    pub(super) fn receive_recovered(&self, name: &str) {
        let stored = self.stored.get_value().unwrap_or_default();
        match stored.into_iter().find(|pack| pack.name == name) {
            Some(pack) => self.load(pack),
            None => self.phase.set(Phase::Idle),
        }
    }
}
