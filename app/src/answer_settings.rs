//! What the user can set for answers.

use paddock_engine::backend::Sampling;
use paddock_engine::generate::GenerateOptions;
use paddock_engine::prompt::TemplateKind;
use serde::{Deserialize, Serialize};

/// How answers are generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswerSettings {
    /// Instructions for the whole conversation; blank for the model's own, if any.
    pub system: String,
    /// How a conversation is written for the model.
    pub template: TemplateKind,
    /// How each token is chosen, except for the seed.
    pub sampling: Sampling,
    /// The seed of every answer; `None` for a new one each time.
    pub seed: Option<u32>,
    /// The longest answer, in tokens.
    pub max_tokens: usize,
    /// Texts that end an answer, one a line; `\n` in one is a line break.
    pub stop: String,
    /// How many answers are given to choose from, where a score model ranks them.
    pub best_of: usize,
}

impl Default for AnswerSettings {
    /// Lively but not wild; the filters keep a small model from rambling.
    fn default() -> Self {
        Self {
            system: String::new(),
            template: TemplateKind::Auto,
            sampling: Sampling {
                temperature: 0.7,
                top_k: 40,
                top_p: 0.95,
                min_p: 0.05,
                repetition_penalty: 1.1,
                seed: 0,
            },
            seed: None,
            max_tokens: 512,
            stop: String::new(),
            best_of: 1,
        }
    }
}

impl AnswerSettings {
    /// The engine's options for one answer; `fresh_seed` is used if the user has set none.
    pub fn options(&self, fresh_seed: u32) -> GenerateOptions {
        GenerateOptions {
            sampling: Sampling { seed: self.seed.unwrap_or(fresh_seed), ..self.sampling },
            max_tokens: self.max_tokens,
            stop: self.stop.lines().filter(|line| !line.is_empty()).map(|line| line.replace("\\n", "\n")).collect(),
        }
    }
}

/// Settings for a purpose, by name.
pub const PRESETS: [(&str, &str, f32, f32, f32); 3] = [
    ("Balanced", "lively, but not wild", 0.7, 0.95, 1.1),
    ("Precise", "the likeliest words; the same answer each time", 0.0, 1.0, 1.0),
    ("Creative", "more surprising words", 1.1, 0.98, 1.1),
];

impl AnswerSettings {
    /// Takes the temperature, top-p and repetition penalty of a preset.
    pub fn take_preset(&mut self, index: usize) {
        if let Some((_, _, temperature, top_p, repetition_penalty)) = PRESETS.get(index) {
            self.sampling.temperature = *temperature;
            self.sampling.top_p = *top_p;
            self.sampling.repetition_penalty = *repetition_penalty;
        }
    }

    /// The preset that these settings are, if any.
    pub fn preset(&self) -> Option<usize> {
        (0..PRESETS.len()).find(|index| {
            let mut same = self.clone();
            same.take_preset(*index);
            same.sampling == self.sampling
        })
    }
}

/// Settings that a person has saved under a name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnPreset {
    /// What the person calls them.
    pub name: String,
    /// All of them, the system message included.
    pub settings: AnswerSettings,
}

impl OwnPreset {
    /// Adds this one to `presets`, in place of one of the same name.
    pub fn save(self, presets: &mut Vec<Self>) {
        match presets.iter_mut().find(|preset| preset.name == self.name) {
            Some(preset) => *preset = self,
            None => presets.push(self),
        }
    }
}

/// A number that can be set, and its limits.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The end of its test id, `option-…`.
    pub id: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// What it does, in a few words.
    pub hint: &'static str,
    /// The lowest value.
    pub min: f64,
    /// The highest value.
    pub max: f64,
    /// The step from one value to the next.
    pub step: f64,
    /// Reads it.
    pub get: fn(&AnswerSettings) -> f64,
    set: fn(&mut AnswerSettings, f64),
}

impl Setting {
    /// Sets it, clamped to its limits; a value that is not finite changes nothing.
    pub fn set(&self, settings: &mut AnswerSettings, value: f64) {
        if value.is_finite() {
            (self.set)(settings, value.clamp(self.min, self.max));
        }
    }
}

/// Every number, in the order in which the page shows them.
pub const SETTINGS: [Setting; 7] = [
    Setting {
        id: "temperature",
        label: "Temperature",
        hint: "0 always takes the likeliest token",
        min: 0.0,
        max: 2.0,
        step: 0.05,
        get: |settings| f64::from(settings.sampling.temperature),
        set: |settings, value| settings.sampling.temperature = value as f32,
    },
    Setting {
        id: "max-tokens",
        label: "Longest answer",
        hint: "in tokens",
        min: 1.0,
        max: 8192.0,
        step: 1.0,
        get: |settings| settings.max_tokens as f64,
        set: |settings, value| settings.max_tokens = value as usize,
    },
    Setting {
        id: "best-of",
        label: "Best of",
        hint: "answers, ranked; needs a score model",
        min: 1.0,
        max: 8.0,
        step: 1.0,
        get: |settings| settings.best_of as f64,
        set: |settings, value| settings.best_of = value as usize,
    },
    Setting {
        id: "top-k",
        label: "Top-k",
        hint: "choose among this many; 0 for all",
        min: 0.0,
        max: 1000.0,
        step: 1.0,
        get: |settings| f64::from(settings.sampling.top_k),
        set: |settings, value| settings.sampling.top_k = value as u32,
    },
    Setting {
        id: "top-p",
        label: "Top-p",
        hint: "likeliest tokens up to this mass; 1 for all",
        min: 0.05,
        max: 1.0,
        step: 0.05,
        get: |settings| f64::from(settings.sampling.top_p),
        set: |settings, value| settings.sampling.top_p = value as f32,
    },
    Setting {
        id: "min-p",
        label: "Min-p",
        hint: "relative to the likeliest; 0 for all",
        min: 0.0,
        max: 1.0,
        step: 0.01,
        get: |settings| f64::from(settings.sampling.min_p),
        set: |settings, value| settings.sampling.min_p = value as f32,
    },
    Setting {
        id: "repetition-penalty",
        label: "Repetition penalty",
        hint: "1 for none",
        min: 1.0,
        max: 2.0,
        step: 0.05,
        get: |settings| f64::from(settings.sampling.repetition_penalty),
        set: |settings, value| settings.sampling.repetition_penalty = value as f32,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_within_their_limits() {
        for setting in SETTINGS {
            let mut settings = AnswerSettings::default();
            let default = (setting.get)(&settings);
            assert!((setting.min..=setting.max).contains(&default), "{}: {default}", setting.id);
            setting.set(&mut settings, f64::NAN);
            assert_eq!((setting.get)(&settings), default, "{}", setting.id);
            for (value, expected) in [(-1e9, setting.min), (1e9, setting.max)] {
                setting.set(&mut settings, value);
                assert!(((setting.get)(&settings) - expected).abs() < 1e-6, "{}", setting.id);
            }
        }
    }

    #[test]
    fn a_seed_of_ones_own_is_kept() {
        let mut settings = AnswerSettings::default();
        assert_eq!(settings.options(7).sampling.seed, 7);
        settings.seed = Some(3);
        assert_eq!(settings.options(7).sampling.seed, 3);
    }

    #[test]
    fn a_preset_is_saved_once_under_its_name() {
        let preset = |name: &str, max_tokens| OwnPreset {
            name: name.to_string(),
            settings: AnswerSettings { max_tokens, ..AnswerSettings::default() },
        };
        let mut presets = Vec::new();
        for (name, max_tokens) in [("a", 1), ("b", 2), ("a", 3)] {
            preset(name, max_tokens).save(&mut presets);
        }
        assert_eq!(presets, [preset("a", 3), preset("b", 2)]);
    }

    #[test]
    fn stop_texts_are_lines() {
        let settings = AnswerSettings { stop: "\nUser:\n\\n\\n \n".to_string(), ..AnswerSettings::default() };
        assert_eq!(settings.options(0).stop, ["User:", "\n\n "]);
        assert!(AnswerSettings::default().options(0).stop.is_empty());
    }
}
