//! Runs of `paddock reward`, `cost` and `dpo` on the fixtures of preference training.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use paddock::run::Metrics;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::program::run;
use crate::sft::floats;
use crate::{fixtures_with, package_fixture};

/// What a fixture's run trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trained {
    /// A reward model.
    Reward,
    /// A cost model.
    Cost,
    /// A chat model, by DPO.
    Dpo,
}

impl Trained {
    /// The command that does it, which names the settings.
    pub fn command(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Cost => "cost",
            Self::Dpo => "dpo",
        }
    }

    /// The list in `expected.json` by which a fixture of this kind is known.
    fn key(self) -> &'static str {
        match self {
            Self::Reward => "better_end_scores",
            Self::Cost => "safer_end_scores",
            Self::Dpo => "better_log_probs",
        }
    }
}

/// A fixture of preference training.
pub struct Fixture {
    /// Its folder.
    pub folder: PathBuf,
    /// `expected.json`.
    pub expected: Value,
    trained: Trained,
}

impl Fixture {
    /// All fixtures of this kind.
    pub fn all(trained: Trained) -> Vec<Self> {
        let folders = fixtures_with(&["train.jsonl", "expected.json", "expected.safetensors"]).into_iter();
        let of_kind = |fixture: &Self| fixture.expected.get(trained.key()).is_some();
        let mut found: Vec<Self> = folders.map(|folder| Self::open(folder, trained)).filter(of_kind).collect();
        if found.is_empty() {
            found.push(Self::own(trained));
        }
        found
    }

    /// This package's.
    pub fn own(trained: Trained) -> Self {
        let name = if trained == Trained::Dpo { "dpo".to_string() } else { format!("{}-training", trained.command()) };
        Self::open(package_fixture(&name), trained)
    }

    fn open(folder: PathBuf, trained: Trained) -> Self {
        let bytes = fs::read(folder.join("expected.json")).expect("expected.json");
        Self { folder, expected: serde_json::from_slice(&bytes).expect("JSON"), trained }
    }

    /// The command that reproduces it, without an output.
    pub fn arguments(&self) -> Vec<OsString> {
        [self.arguments_without_preset(), vec!["--preset".into(), "safe-rlhf".into()]].concat()
    }

    /// The same without its preset.
    pub fn arguments_without_preset(&self) -> Vec<OsString> {
        let at = |parts: [&str; 2]| {
            let value = &self.expected[parts[0]][parts[1]];
            value.as_f64().map(|number| number.to_string()).unwrap_or_else(|| panic!("{parts:?} is {value}"))
        };
        let file = |name: &str| {
            let relative = self.expected[name].as_str().unwrap_or_else(|| panic!("{name} is missing"));
            self.folder.join(relative).into_os_string()
        };
        let mut arguments: Vec<OsString> = vec![self.trained.command().into()];
        arguments.extend(["--model".into(), file("model"), "--data".into(), file("train_data")]);
        if self.trained == Trained::Dpo {
            arguments.extend(["--beta".into(), at(["settings", "beta"]).into()]);
        } else {
            arguments.extend(["--eval-data".into(), file("eval_data")]);
            arguments.extend(["--regularization".into(), at(["settings", "regularization"]).into()]);
        }
        let settings = format!(
            "--template safe-rlhf --max-length {} --batch-size {} --epochs {} --learning-rate {} \
             --warmup-ratio {} --weight-decay {} --no-shuffle --dtype f32 --device cpu",
            at(["settings", "max_length"]),
            at(["settings", "batch_size"]),
            at(["settings", "epochs"]),
            at(["optimizer", "lr"]),
            at(["schedule", "warmup_ratio"]),
            at(["optimizer", "weight_decay"]),
        );
        arguments.extend(settings.split_whitespace().map(OsString::from));
        arguments
    }

    /// The numbers of a list in `expected.json`.
    pub fn list(&self, name: &str) -> Vec<f64> {
        numbers(&self.expected[name])
    }
}

/// The numbers of a JSON list.
pub fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

/// Runs `arguments` into `output`, with further ones; an option that is there already takes the new value.
pub fn train(arguments: &[OsString], output: &Path, further: &str) -> String {
    let all = with(arguments, output, further);
    run(&all.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>())
}

/// [`train`]'s arguments.
pub fn with(arguments: &[OsString], output: &Path, further: &str) -> Vec<OsString> {
    let mut all = arguments.to_vec();
    let further: Vec<&str> = further.split_whitespace().collect();
    for option in further.iter().filter(|argument| argument.starts_with("--")) {
        if let Some(at) = all.iter().position(|argument| argument == option) {
            all.drain(at..at + 2);
        }
    }
    all.extend(["--output".into(), output.into()]);
    all.extend(further.iter().map(OsString::from));
    all
}

/// What the run noted of its steps, one of its values each.
pub fn steps(metrics: &[Metrics], name: &str) -> Vec<f64> {
    let value = |metrics: &Metrics| match name {
        "loss" => metrics.loss,
        "grad_norm" => metrics.grad_norm,
        "learning_rate" => metrics.learning_rate,
        other => metrics.values.get(other).copied(),
    };
    metrics.iter().filter(|metrics| metrics.learning_rate.is_some()).filter_map(value).collect()
}

/// All values of a safetensors file, in the order of their names.
pub fn tensors(path: &Path) -> Vec<(String, Vec<f32>)> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let values = |(name, view): (String, TensorView)| (name, floats(view.data()));
    let mut all: Vec<(String, Vec<f32>)> = tensors.tensors().into_iter().map(values).collect();
    all.sort_by(|(first, _), (second, _)| first.cmp(second));
    all
}
