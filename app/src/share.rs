//! Links that carry a model, settings and a first question. They stand in the fragment, which browsers send to no server:
//! `#chat?model=NAME&score=NAME&template=alpaca&temperature=0.5&system=…&prompt=…`.

use crate::address::{decode, encode};
use crate::answer_settings::{AnswerSettings, SETTINGS};

/// What a link carries beside the models.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shared {
    /// How answers are made.
    pub settings: AnswerSettings,
    /// The first question.
    pub prompt: String,
}

/// The longest question that a link carries, in bytes; browsers and chats cut longer links.
const MOST_PROMPT: usize = 6000;

impl Shared {
    /// Reads a fragment. `None` when it carries nothing of the kind.
    pub fn parse(fragment: &str) -> Option<Self> {
        let (_, query) = fragment.split_once('?')?;
        let mut shared = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = decode(value);
            let settings = &mut shared.settings;
            match name {
                "prompt" => shared.prompt = value,
                "system" => settings.system = value,
                "stop" => settings.stop = value,
                "seed" => settings.seed = value.parse().ok(),
                "template" => settings.template = value.parse().unwrap_or_default(),
                _ => {
                    let setting = SETTINGS.iter().find(|setting| setting.id == name);
                    if let Some((setting, number)) = setting.zip(value.parse().ok()) {
                        setting.set(settings, number);
                    }
                }
            }
        }
        Some(shared)
    }

    /// The fragment of a link to the page with these models, by name. What is as usual is left out.
    pub fn fragment(&self, model: Option<&str>, score: Option<&str>) -> String {
        let (settings, usual) = (&self.settings, AnswerSettings::default());
        let mut parts = Vec::new();
        let mut add = |name: &str, value: &str| parts.push(format!("{name}={}", encode(value)));
        model.iter().for_each(|name| add("model", name));
        score.iter().for_each(|name| add("score", name));
        if settings.template != usual.template {
            add("template", &settings.template.to_string());
        }
        for setting in SETTINGS {
            let value = (setting.get)(settings);
            if value != (setting.get)(&usual) {
                // Settings are f32 at most; more digits would be those of the conversion.
                add(setting.id, &(value as f32).to_string());
            }
        }
        if let Some(seed) = settings.seed {
            add("seed", &seed.to_string());
        }
        let prompt = if self.prompt.len() > MOST_PROMPT { "" } else { self.prompt.as_str() };
        for (name, text) in [("system", settings.system.as_str()), ("stop", &settings.stop), ("prompt", prompt)] {
            if !text.is_empty() {
                add(name, text);
            }
        }
        format!("#chat?{}", parts.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::prompt::TemplateKind;

    use super::*;

    #[test]
    fn a_link_brings_back_what_it_was_made_of() {
        let mut settings = AnswerSettings {
            system: "Be brief & kind.".to_string(),
            template: TemplateKind::Alpaca,
            seed: Some(7),
            stop: "\\n\nUser:".to_string(),
            ..AnswerSettings::default()
        };
        SETTINGS[0].set(&mut settings, 0.35);
        let shared = Shared { settings, prompt: "Ünïcode? 100 % + #1".to_string() };
        let fragment = shared.fragment(Some("My model"), None);
        assert!(fragment.starts_with("#chat?model=My%20model&template=alpaca&temperature=0.35&seed=7&"), "{fragment}");
        assert_eq!(Shared::parse(&fragment), Some(shared));
        assert_eq!(Shared::default().fragment(None, None), "#chat?");
    }

    #[test]
    fn odd_links_are_harmless() {
        assert_eq!(Shared::parse("#chat"), None);
        let odd = Shared::parse("#chat?temperature=hot&top-k=1e99&template=none%00&seed=-1&=&x").unwrap();
        assert_eq!(odd.settings.sampling.top_k, 1000);
        assert_eq!(odd.settings.seed, None);
        assert_eq!(odd.prompt, "");
        let long = Shared { prompt: "a".repeat(10_000), ..Shared::default() };
        assert!(long.fragment(None, None).len() < 100);
    }
}
