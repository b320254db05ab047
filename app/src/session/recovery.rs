//! Recovering a model from its base and a weight diff, and removing it from the storage.

use js_sys::Array;

use super::{Jobs, Models, Notices, Purpose};
use crate::models::Pack;
use crate::protocol::{Lane, PackLocation, Task};

/// A base or a diff, as the person chose it.
#[derive(Clone)]
pub enum Chosen {
    /// One of the list.
    Listed(Pack),
    /// The files of a folder.
    Folder(Array),
}

/// What can be done with this browser's storage.
#[derive(Clone, Copy)]
pub struct Recovery {
    models: Models,
    jobs: Jobs,
    notices: Notices,
}

impl Recovery {
    /// Nothing is under way.
    pub fn new(models: Models, jobs: Jobs, notices: Notices) -> Self {
        Self { models, jobs, notices }
    }

    /// A model can be recovered or removed now.
    pub fn is_possible(&self) -> bool {
        self.jobs.are_idle(Lane::Storage)
    }

    /// A model is being recovered.
    pub fn is_under_way(&self) -> bool {
        self.jobs.any(|purpose| matches!(purpose, Purpose::Recover(_)))
    }

    /// Recovers the model `name` into the storage.
    pub fn recover(&self, name: String, base: &Chosen, diff: &Chosen, quantize: String) {
        let mut folders = Vec::new();
        let mut location = |chosen: &Chosen| match chosen {
            Chosen::Listed(pack) => self.models.location(pack),
            Chosen::Folder(files) => {
                folders.push(files.clone());
                Some(PackLocation::Files(folders.len() - 1))
            }
        };
        let (Some(base), Some(diff)) = (location(base), location(diff)) else { return };
        self.notices.dismiss();
        let task = Task::Recover { name: name.clone(), base, diff, quantize };
        let job = self.jobs.start_with(Purpose::Recover(name.clone()), task, folders);
        self.models.expect(job, name);
    }

    /// The person has to choose first.
    pub fn miss(&self) {
        self.notices.show("Choose a base and a diff first.".to_string());
    }
}
