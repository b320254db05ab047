//! What two settings of a run differ in, as far as it changes what is learned.

use std::path::Path;

use toml::{Table, Value};

use super::{RunSettings, Settings};

/// Settings that change where and when a run writes, what it reports, and how it uses the machine, but not the result.
/// The examples are compared themselves, so that a file may move.
const FREE: [&str; 10] = [
    "output",
    "data",
    "strict",
    "save-steps",
    "keep",
    "eval-data",
    "eval-steps",
    "gradient-checkpointing",
    "zero",
    "offload-optimizer",
];

/// What of `now` differs from the `saved` settings of the run that it is to continue: the name of each setting, its value
/// then and now.
pub fn changes<T: Settings>(now: &T, saved: &T) -> Vec<String> {
    let tables = [saved, now].map(|settings| Table::try_from(settings).unwrap_or_default());
    let [then, of_now] = &tables;
    let mut names: Vec<&String> = then.keys().chain(of_now.keys().filter(|name| !then.contains_key(*name))).collect();
    names.retain(|name| {
        let free = FREE.contains(&name.as_str())
            || now.is_free(name)
            || (*name == "model" && same_place(&saved.run().model, &now.run().model));
        !free && then.get(*name) != of_now.get(*name)
    });
    names.iter().map(|name| format!("{name} {}, now {}", shown(then.get(*name)), shown(of_now.get(*name)))).collect()
}

impl RunSettings {
    /// Why the checkpoints of `saved` cannot be loaded by a run of `self` at all, if they cannot.
    pub fn unlike(&self, saved: &Self) -> Option<&'static str> {
        match (&saved.memory.adapters.lora, &self.memory.adapters.lora) {
            (Some(_), None) => Some("it trained adapters, and this run trains the whole model"),
            (None, Some(_)) => Some("it trained the whole model, and this run trains adapters"),
            (Some(then), Some(now)) if then.rank != now.rank => Some("its adapters have another rank"),
            (Some(then), Some(now)) if then.targets != now.targets => Some("its adapters have other targets"),
            _ => None,
        }
    }
}

fn same_place(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "not set".to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Float(number)) => number.to_string(),
        Some(Value::Table(table)) => {
            let fields: Vec<String> =
                table.iter().map(|(name, value)| format!("{name} {}", shown(Some(value)))).collect();
            fields.join(" ")
        }
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use paddock_learn::lora::Lora;
    use paddock_learn::objective::LossNormalization;

    use super::*;
    use crate::run::SftSettings;

    fn changed(change: impl FnOnce(&mut SftSettings)) -> Vec<String> {
        let saved =
            SftSettings { run: RunSettings { model: "m".into(), ..RunSettings::default() }, ..SftSettings::default() };
        let mut now = saved.clone();
        change(&mut now);
        changes(&now, &saved)
    }

    #[test]
    fn what_changes_the_result_is_listed_with_both_values() {
        assert_eq!(changed(|_| {}), [""; 0]);
        assert_eq!(changed(|now| now.run.batch_size = 2), ["batch-size 128, now 2"]);
        assert_eq!(changed(|now| now.run.max_steps = Some(9)), ["max-steps not set, now 9"]);
        assert_eq!(changed(|now| now.run.seed = 1), ["seed 42, now 1"]);
        assert_eq!(changed(|now| now.run.model = "other".into()), ["model m, now other"]);
        assert_eq!(changed(|now| now.run.optimizer.learning_rate = 0.5), ["learning-rate 0.00002, now 0.5"]);
        let lora = changed(|now| now.run.memory.adapters.lora = Some(Lora::default()));
        assert!(lora[0].starts_with("lora not set, now ") && lora[0].contains("rank 8"), "{lora:?}");
    }

    #[test]
    fn what_does_not_is_free() {
        let free = changed(|now| {
            (now.run.output, now.run.data) = ("elsewhere".into(), "moved.json".into());
            (now.run.save_steps, now.run.keep, now.run.eval_steps) = (Some(1), 9, Some(3));
            (now.run.memory.gradient_checkpointing, now.run.memory.offload_optimizer) = (true, true);
            now.run.memory.micro_batch_tokens = 128;
        });
        assert_eq!(free, [""; 0]);
        let cut = changed(|now| {
            now.loss_normalization = LossNormalization::MicroBatch;
            now.run.memory.micro_batch_tokens = 128;
        });
        assert_eq!(cut.len(), 2, "{cut:?}");
    }

    #[test]
    fn adapters_of_another_shape_are_unlike() {
        let of = |lora: Option<Lora>| {
            let mut settings = RunSettings::default();
            settings.memory.adapters.lora = lora;
            settings
        };
        let (whole, plain) = (of(None), of(Some(Lora::default())));
        assert!(whole.unlike(&plain).is_some_and(|why| why.starts_with("it trained adapters")));
        assert!(plain.unlike(&whole).is_some_and(|why| why.starts_with("it trained the whole model")));
        assert!(of(Some(Lora { rank: 2, ..Lora::default() })).unlike(&plain).is_some());
        assert!(of(Some(Lora { targets: vec!["o_proj".into()], ..Lora::default() })).unlike(&plain).is_some());
        assert_eq!(of(Some(Lora { alpha: 1.0, ..Lora::default() })).unlike(&plain), None);
    }
}
