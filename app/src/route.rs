//! The pages and their fragments in the address.

use leptos::prelude::window;

/// A page, by the fragment of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Talk with the model.
    Chat,
    /// Score answers.
    Score,
    /// See what is in a file of data.
    Data,
    /// Watch training runs.
    Runs,
    /// Choose a model and a device.
    Models,
}

impl Page {
    /// Every page, in the order of the rail.
    pub const ALL: [Self; 5] = [Self::Chat, Self::Score, Self::Data, Self::Runs, Self::Models];

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Chat => "Chat",
            Self::Score => "Score",
            Self::Data => "Data",
            Self::Runs => "Runs",
            Self::Models => "Models",
        }
    }

    /// Its fragment.
    pub fn fragment(self) -> &'static str {
        match self {
            Self::Chat => "#chat",
            Self::Score => "#score",
            Self::Data => "#data",
            Self::Runs => "#runs",
            Self::Models => "#models",
        }
    }

    /// The page in the address. If there is none, it is the chat, or the runs when the address names some.
    pub fn current(names_runs: bool) -> Self {
        let fragment = window().location().hash().unwrap_or_default();
        let fragment = fragment.split('?').next().unwrap_or_default();
        let other = if names_runs { Self::Runs } else { Self::Chat };
        Self::ALL.into_iter().find(|page| page.fragment() == fragment).unwrap_or(other)
    }
}
