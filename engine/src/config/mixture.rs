//! Scores that are put together from several rewards: which tensors they need, and how they are recognised.
//!
//! ArmoRM (arXiv 2406.12845) and QRM (arXiv 2409.10164) weigh their rewards by the question, URM (arXiv 2410.00847) by
//! the conversation. The formulas are those of the code that their authors published with the models.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read::Fields;
use super::{HeadLayer, Param};
use crate::{Error, Result};

/// More layers than the network that weighs rewards has in any published model.
const MOST_LAYERS: usize = 64;
/// The rewards of ArmoRM and QRM.
const REGRESSION: &str = "regression_layer.weight";
/// The first layer that weighs them.
const GATE: &str = "gating.layers.0.weight";
/// The first layer that weighs the rewards of URM.
const WEIGHTS: &str = "weights.fc.0.weight";
/// The factor of ArmoRM's and QRM's weights, after the softmax.
pub(crate) const GATE_SCALE: &str = "gating.logit_scale";
/// What ArmoRM's and QRM's rewards are multiplied by, `[rewards, rewards]`.
pub(crate) const TRANSFORM: &str = "reward_transform_matrix";

/// A score that is the sum of several rewards, each multiplied by a weight that a network finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    /// Rewards.
    pub rewards: usize,
    /// Outputs of the head for each reward, which lie side by side.
    pub outputs_each: usize,
    /// The network that finds the weights, from a hidden state after the final norm.
    pub gate: Vec<GateLayer>,
    /// Whose it is.
    pub kind: MixtureKind,
}

/// Whose mixture of rewards it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixtureKind {
    /// ArmoRM's and QRM's: a reward is the mean of its outputs (QRM's quantiles); rewards are multiplied by
    /// `reward_transform_matrix`; the weights are the softmax of the network's outputs divided by `temperature`, times
    /// `gating.logit_scale`, where the question ends and the assistant's turn begins. Between layers are ReLUs.
    ByQuestion {
        /// Divisor of the network's outputs.
        temperature: f32,
    },
    /// URM's: of a reward's two outputs, mean and deviation, the mean counts; the weights are the network's outputs at the
    /// same token. Between layers are SELUs.
    ByToken,
}

/// A layer of the network that weighs rewards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateLayer {
    /// The layer.
    #[serde(flatten)]
    pub layer: HeadLayer,
    /// What stands before the names of the batch norm after its activation, where there is one (QRM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<String>,
}

impl GateLayer {
    /// The batch norm's gain, bias, mean and variance.
    pub(crate) fn norm_names(&self) -> Option<[String; 4]> {
        let norm = self.norm.as_ref()?;
        Some(["weight", "bias", "running_mean", "running_var"].map(|part| format!("{norm}.{part}")))
    }
}

impl Mixture {
    /// Whether a checkpoint has tensors that only these heads have.
    pub(crate) fn is_among(has: impl Fn(&str) -> bool) -> bool {
        has(REGRESSION) || has(WEIGHTS)
    }

    /// The mixture among the tensors of a checkpoint, with the layer that gives the rewards; `None` when there is none.
    ///
    /// # Errors
    /// When a part of it is missing or has a size that does not fit the others.
    pub(super) fn from_tensors(
        fields: Fields,
        rows: &impl Fn(&str) -> Option<usize>,
        has: &impl Fn(&str) -> bool,
    ) -> Result<Option<(HeadLayer, Self)>> {
        let layer = |name: String| {
            let weight = format!("{name}.weight");
            let bias = Some(format!("{name}.bias")).filter(|bias| has(bias));
            rows(&weight).map(|outputs| HeadLayer { weight, bias, outputs })
        };
        let gate = |prefix: &str| {
            let mut gate: Vec<GateLayer> = Vec::new();
            for name in (0..MOST_LAYERS).map(|index| format!("{prefix}.{index}")) {
                if has(&format!("{name}.running_mean")) {
                    gate.last_mut().into_iter().for_each(|last| last.norm = Some(name.clone()));
                } else if let Some(layer) = layer(name) {
                    gate.push(GateLayer { layer, norm: None });
                }
            }
            gate
        };
        let (head, gate, kind) = match (layer("regression_layer".to_string()), layer("score".to_string())) {
            (Some(head), _) => {
                let temperature = fields.number("gating_temperature")?.unwrap_or(10.0);
                (head, gate("gating.layers"), MixtureKind::ByQuestion { temperature })
            }
            (None, Some(head)) if has(WEIGHTS) => (head, gate("weights.fc"), MixtureKind::ByToken),
            _ => return unweighed(fields).map_or(Ok(None), Err),
        };
        let Some(last) = gate.last() else {
            return Err(Error::Unsupported(format!(
                "the checkpoint holds several rewards ({}) without the network that weighs them: {GATE} is missing, as in \
                 a model of regression alone; Paddock reads ArmoRM, QRM and URM whole",
                head.weight
            )));
        };
        let rewards = last.layer.outputs;
        let outputs_each = head.outputs.checked_div(rewards).unwrap_or(0);
        let wanted = match kind {
            MixtureKind::ByQuestion { .. } => fields.size("num_quantiles")?.unwrap_or(outputs_each.max(1)),
            MixtureKind::ByToken => 2,
        };
        if head.outputs != rewards * wanted || head.outputs == 0 {
            return Err(Error::format(
                fields.file(),
                format!(
                    "{} has {} rows and {} has {rewards}; expected {wanted} for each of as many rewards",
                    head.weight, head.outputs, last.layer.weight
                ),
            ));
        }
        if let MixtureKind::ByQuestion { temperature } = kind
            && temperature <= 0.0
        {
            let problem = format!("\"gating_temperature\" is {temperature}; expected a number above 0");
            return Err(Error::format(fields.file(), problem));
        }
        Ok(Some((head, Self { rewards, outputs_each, gate, kind })))
    }

    /// The parameters of the network on hidden states of this size, and those that go with it, in the order in which they
    /// are loaded.
    pub(super) fn params(&self, hidden_size: usize) -> Vec<Param> {
        let param = |name: &str, rows, cols| Param { name: name.to_string(), shape: [rows, cols] };
        let mut params = Vec::new();
        let mut inputs = hidden_size;
        for gate in &self.gate {
            let HeadLayer { weight, bias, outputs } = &gate.layer;
            params.push(param(weight, *outputs, inputs));
            params.extend(bias.as_ref().map(|bias| param(bias, 1, *outputs)));
            params.extend(gate.norm_names().into_iter().flatten().map(|name| param(&name, 1, *outputs)));
            inputs = *outputs;
        }
        if matches!(self.kind, MixtureKind::ByQuestion { .. }) {
            params.push(param(GATE_SCALE, 1, 1));
            params.push(param(TRANSFORM, self.rewards, self.rewards));
        }
        params
    }
}

/// The error for the first model of URM, whose weights stand in code that was published beside it.
fn unweighed(fields: Fields) -> Option<Error> {
    let classes = fields.get("architectures").and_then(Value::as_array)?;
    let class = classes.iter().filter_map(Value::as_str).find(|class| class.contains("WithNormal"))?;
    Some(Error::Unsupported(format!(
        "{}: the class {class} gives means and deviations of several rewards, and the checkpoint does not hold how they are \
         weighed ({WEIGHTS}); of these models Paddock reads those that do, such as URM-LLaMa-3.1-8B",
        fields.file()
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(config: &Value, tensors: &[(&str, usize)]) -> Result<Option<(HeadLayer, Mixture)>> {
        let rows = |name: &str| tensors.iter().find(|(known, rows)| *known == name && *rows > 0).map(|(_, rows)| *rows);
        let has = |name: &str| tensors.iter().any(|(known, _)| *known == name);
        Mixture::from_tensors(Fields::new(config, "config.json"), &rows, &has)
    }

    #[test]
    fn gates_are_known_by_their_tensors() {
        let armo = [
            ("regression_layer.weight", 19),
            ("gating.layers.0.weight", 1024),
            ("gating.layers.0.bias", 0),
            ("gating.layers.1.weight", 19),
            ("gating.layers.1.bias", 0),
        ];
        let (head, mixture) = find(&json!({ "gating_temperature": 5 }), &armo).unwrap().unwrap();
        assert_eq!((head.outputs, mixture.rewards, mixture.outputs_each), (19, 19, 1));
        assert_eq!(mixture.kind, MixtureKind::ByQuestion { temperature: 5.0 });
        let names: Vec<String> = mixture.params(8).into_iter().map(|param| param.name).collect();
        assert_eq!(names[..2], ["gating.layers.0.weight", "gating.layers.0.bias"]);
        assert_eq!(names[4..], [GATE_SCALE, TRANSFORM]);
        // QRM: layers without biases, and a batch norm after each activation.
        let qrm = [
            ("regression_layer.weight", 6),
            ("gating.layers.0.weight", 7),
            ("gating.layers.2.weight", 0),
            ("gating.layers.2.running_mean", 0),
            ("gating.layers.3.weight", 2),
        ];
        let (_, mixture) = find(&json!({ "num_quantiles": 3 }), &qrm).unwrap().unwrap();
        assert_eq!((mixture.rewards, mixture.outputs_each, mixture.gate.len()), (2, 3, 2));
        assert_eq!(mixture.gate[0].norm.as_deref(), Some("gating.layers.2"));
        let urm = [("score.weight", 10), ("weights.fc.0.weight", 64), ("weights.fc.2.weight", 5)];
        let (_, mixture) = find(&json!({}), &urm).unwrap().unwrap();
        assert_eq!((mixture.rewards, mixture.kind), (5, MixtureKind::ByToken));
        assert!(find(&json!({}), &[("score.weight", 10)]).unwrap().is_none());
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let error = |config: Value, tensors: &[(&str, usize)]| find(&config, tensors).unwrap_err().to_string();
        let alone = error(json!({}), &[("regression_layer.weight", 19)]);
        assert!(alone.contains("gating.layers.0.weight is missing"), "{alone}");
        let gated = [("regression_layer.weight", 19), ("gating.layers.0.weight", 4)];
        let uneven = error(json!({}), &gated);
        assert!(uneven.contains("has 19 rows and gating.layers.0.weight has 4"), "{uneven}");
        let even = [("regression_layer.weight", 8), ("gating.layers.0.weight", 4)];
        assert!(error(json!({ "num_quantiles": 3 }), &even).contains("expected 3 for each"));
        assert!(error(json!({ "gating_temperature": 0 }), &even).contains("above 0"));
        let first = json!({ "architectures": ["LlamaForSequenceClassificationWithNormal"] });
        assert!(error(first, &[("score.weight", 10)]).contains("weights.fc.0.weight"));
    }
}
