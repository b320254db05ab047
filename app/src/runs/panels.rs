//! What is drawn of a run: the fields of `metrics.jsonl` by the names that the trainer gives them, in panels.

/// A field of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// Its name in a line.
    pub field: &'static str,
    /// Its name beside the others of its panel.
    pub name: &'static str,
}

/// A chart. It shows those of its series that a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panel {
    /// Its name for people.
    pub title: &'static str,
    /// What it shows.
    pub series: &'static [Series],
    /// Whether the last series has an axis of its own, on the right.
    pub right: bool,
}

/// Panels that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Its heading.
    pub title: &'static str,
    /// Its panels, in order.
    pub panels: &'static [Panel],
}

/// A panel of one field.
const fn one(title: &'static str, series: &'static [Series; 1]) -> Panel {
    Panel { title, series, right: false }
}

/// A panel of several fields on one axis.
const fn several(title: &'static str, series: &'static [Series]) -> Panel {
    Panel { title, series, right: false }
}

const fn of(field: &'static str, name: &'static str) -> Series {
    Series { field, name }
}

/// All groups, in the order in which they are shown.
pub static GROUPS: [Group; 6] = [
    Group {
        title: "Rewards and costs",
        panels: &[
            one("Reward", &[of("reward", "")]),
            Panel {
                title: "Cost and λ",
                series: &[of("cost", "cost"), of("cost_threshold", "threshold"), of("lambda", "λ (right)")],
                right: true,
            },
            one("Reward with KL penalty", &[of("reward_with_kl_penalty", "")]),
        ],
    },
    Group {
        title: "Policy",
        panels: &[
            one("KL to the reference", &[of("kl_divergence", "")]),
            one("Entropy", &[of("entropy", "")]),
            several("Clip fraction", &[of("clip_fraction_low", "below"), of("clip_fraction_high", "above")]),
            one("Tokens of an answer", &[of("mean_generated_length", "")]),
            one("Answers that ended", &[of("eos_rate", "")]),
        ],
    },
    Group {
        title: "Critics",
        panels: &[
            one("Value loss, reward", &[of("reward_critic_loss", "")]),
            one("Value loss, cost", &[of("cost_critic_loss", "")]),
        ],
    },
    Group {
        title: "Preferences",
        panels: &[
            several(
                "Accuracy of rewards",
                &[of("rewards/accuracies", "training"), of("eval_rewards/accuracies", "evaluation")],
            ),
            several(
                "Margin of rewards",
                &[of("rewards/margins", "training"), of("eval_rewards/margins", "evaluation")],
            ),
            several("Rewards", &[of("rewards/chosen", "chosen"), of("rewards/rejected", "rejected")]),
            several("Log-probabilities", &[of("logps/chosen", "chosen"), of("logps/rejected", "rejected")]),
            one("KL", &[of("kl", "")]),
        ],
    },
    Group {
        title: "Scores",
        panels: &[
            several("Accuracy", &[of("accuracy", "training"), of("eval_accuracy", "evaluation")]),
            several("Accuracy of signs", &[of("accuracy_sign", "training"), of("eval_accuracy_sign", "evaluation")]),
            several("Margin", &[of("margin", "training"), of("eval_margin", "evaluation")]),
            several("Mean reward", &[of("mean_reward", "training"), of("eval_reward_mean", "evaluation")]),
            several("Mean cost", &[of("mean_cost", "training"), of("eval_cost_mean", "evaluation")]),
            several(
                "Deviation of scores",
                &[of("eval_reward_std", "reward, evaluation"), of("eval_cost_std", "cost, evaluation")],
            ),
        ],
    },
    Group {
        title: "Training",
        panels: &[
            several("Loss", &[of("loss", "training"), of("eval_loss", "evaluation")]),
            one("Learning rate", &[of("learning_rate", "")]),
            one("Gradient norm", &[of("grad_norm", "")]),
            one("Tokens per second", &[of("tokens_per_s", "")]),
        ],
    },
];

/// All panels, in order.
pub fn panels() -> impl Iterator<Item = &'static Panel> {
    GROUPS.iter().flat_map(|group| group.panels)
}

/// All series, in order, each with its panel. A series' place in this list is its number.
pub fn series() -> impl Iterator<Item = (&'static Panel, &'static Series)> {
    panels().flat_map(|panel| panel.series.iter().map(move |series| (panel, series)))
}

/// The number of the field with this name.
pub fn number_of(field: &str) -> Option<usize> {
    series().position(|(_, series)| series.field == field)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_field_is_drawn_once_and_named_where_it_is_not_alone() {
        let fields: Vec<&str> = series().map(|(_, series)| series.field).collect();
        assert_eq!(fields.iter().collect::<BTreeSet<_>>().len(), fields.len());
        assert!(series().all(|(panel, series)| panel.series.len() == 1 || !series.name.is_empty()));
        assert_eq!(number_of("reward"), Some(0));
        assert_eq!(number_of("weather"), None);
    }
}
