//! What makes a score model: a linear head on the normed hidden state, and how its scores are normalised.
//!
//! Read are Safe-RLHF's `LlamaForScore` (PKU-Alignment/safe-rlhf, `safe_rlhf/models/score_model`), transformers'
//! `LlamaForSequenceClassification`, and heads that are known by their tensors: OpenRLHF's, UltraRM's, Ziya's, Starling's,
//! TRL's, those of several layers of GRM and INF-ORM, and the mixtures of ArmoRM, QRM and URM.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read::Fields;
use super::{Mixture, MixtureKind, Param};
use crate::{Error, Result};

/// Added to the standard deviation, as in Safe-RLHF's `normalizer.py`.
const DEVIATION_EPS: f32 = 1e-8;
/// More outputs than any published head has.
const MOST_SCORES: usize = 1 << 16;

/// Where a score head comes from, which decides the names of its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoreFamily {
    /// `score_head.weight`, `score_head.bias`, `normalizer.mean`, `normalizer.var`.
    SafeRlhf,
    /// `score.weight`, which is all there is.
    SequenceClassification,
}

/// What the normaliser does to a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    /// `(score − mean) / deviation`: reward models.
    #[default]
    Affine,
    /// `score / deviation`, which keeps the sign: cost models.
    Scale,
    /// Nothing: critics.
    Identity,
}

/// The trunk that a checkpoint of a head alone was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkReference {
    /// The model's name, for people.
    pub name: String,
    /// The trunk's [`fingerprint`](crate::model::Trunk::fingerprint).
    pub fingerprint: String,
}

/// One layer of a head: `x · weightᵀ + bias`. Between layers is a ReLU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadLayer {
    /// Name of the weight, `[outputs, inputs]`.
    pub weight: String,
    /// Name of the bias, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<String>,
    /// Rows of the weight.
    pub outputs: usize,
}

/// What is made of the outputs of a head.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduce {
    /// They are the scores.
    #[default]
    Outputs,
    /// One score: the probability of this one of two outputs, by their softmax.
    Probability(usize),
    /// One score, from several rewards and their weights.
    Mixture(Mixture),
}

impl Reduce {
    fn is_outputs(&self) -> bool {
        *self == Self::Outputs
    }
}

/// The score of a hidden state after the final norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadSpec {
    /// Where the checkpoint comes from.
    pub family: ScoreFamily,
    /// Scores for each token.
    pub score_dim: usize,
    /// Whether the checkpoint holds a bias; without one it is 0.
    pub bias: bool,
    /// The layers of a head that is known by its tensors; empty for the one layer of the family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<HeadLayer>,
    /// What is made of the outputs of the last layer.
    #[serde(default, skip_serializing_if = "Reduce::is_outputs")]
    pub reduce: Reduce,
    /// The conversation's score is that of its last token other than this one (transformers'
    /// `LlamaForSequenceClassification`, even where it is the token that ends a conversation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_token_id: Option<u32>,
    /// Whether scores are normalised.
    pub do_normalize: bool,
    /// How they are, when they are.
    pub normalization: Normalization,
    /// Mean of the scores by the configuration, `[score_dim]`.
    pub mean: Vec<f32>,
    /// Their variance by the configuration, `[score_dim]`.
    pub var: Vec<f32>,
    /// Whether the checkpoint holds mean and variance, which then replace the configuration's.
    pub statistics: bool,
    /// Whether the model was trained on answers with the tokenizer's EOS after them, outside of chat templates, which write
    /// their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub append_eos: bool,
    /// Set when the checkpoint holds the head alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<TrunkReference>,
}

impl HeadSpec {
    /// A new head of one score, as a checkpoint of `family` holds it. `pad_token_id` is what transformers' classifiers pass
    /// over at the end of a conversation.
    pub fn new(family: ScoreFamily, normalization: Normalization, pad_token_id: Option<u32>) -> Self {
        let own = family == ScoreFamily::SafeRlhf;
        let pad_token_id = pad_token_id.filter(|_| !own);
        Self { family, bias: own, normalization, pad_token_id, ..Self::classifier() }
    }

    /// The head that a `config.json` describes; `None` when the model is not a score model. Fields that old
    /// configurations lack have Safe-RLHF's defaults.
    pub(super) fn from_json(config: &Value, file: &str) -> Result<Option<Self>> {
        let fields = Fields::new(config, file);
        let classes = fields.get("architectures").and_then(Value::as_array).into_iter().flatten();
        let mut classes = classes.filter_map(Value::as_str);
        if classes.clone().any(|class| class.ends_with("ForTokenClassification")) && labels(fields)? == 2 {
            return Ok(Some(Self::process_reward()));
        }
        let family = classes.find_map(|class| match class {
            _ if class.ends_with("ForScore") => Some(ScoreFamily::SafeRlhf),
            _ if class.ends_with("ForSequenceClassification") => Some(ScoreFamily::SequenceClassification),
            _ => None,
        });
        let Some(family) = family else { return Ok(None) };
        let score_dim = match family {
            ScoreFamily::SafeRlhf => fields.size("score_dim")?.unwrap_or(1),
            ScoreFamily::SequenceClassification => labels(fields)?,
        };
        if !(1..=MOST_SCORES).contains(&score_dim) {
            return Err(Error::format(file, format!("{score_dim} scores for each token; expected at least 1")));
        }
        let normalization = match fields.text("score_type") {
            None | Some("reward") => Normalization::Affine,
            Some("cost") => Normalization::Scale,
            Some("critic") => Normalization::Identity,
            Some(other) => {
                return Err(Error::Unsupported(format!(
                    "{file}: the score type \"{other}\" is not known; expected reward, cost or critic"
                )));
            }
        };
        if let Some(other) = fields.text("normalizer_type")
            && !["RunningMeanStd", "ExponentialMovingAverage"].contains(&other)
        {
            return Err(Error::Unsupported(format!(
                "{file}: the normalizer \"{other}\" is not known; expected RunningMeanStd or ExponentialMovingAverage"
            )));
        }
        let trunk = match fields.get("trunk") {
            None => None,
            Some(trunk) => Some(serde_json::from_value(trunk.clone()).map_err(|error| {
                Error::format(file, format!("\"trunk\": expected the name and fingerprint of a model: {error}"))
            })?),
        };
        Ok(Some(Self {
            family,
            score_dim,
            bias: false,
            layers: Vec::new(),
            reduce: Reduce::Outputs,
            pad_token_id: match family {
                ScoreFamily::SafeRlhf => None,
                ScoreFamily::SequenceClassification => fields.token_ids("pad_token_id")?.first().copied(),
            },
            do_normalize: fields.flag("do_normalize")?.unwrap_or(false),
            normalization,
            mean: statistics(fields, "mean", score_dim, 0.0)?,
            var: statistics(fields, "var", score_dim, 1.0)?,
            statistics: false,
            append_eos: fields.flag("append_eos")?.unwrap_or(false),
            trunk,
        }))
    }

    /// A linear head of one score, as llama.cpp's GGUF files of pooling type "rank" and PEFT's adapters hold it.
    pub fn classifier() -> Self {
        Self {
            family: ScoreFamily::SequenceClassification,
            score_dim: 1,
            bias: false,
            layers: Vec::new(),
            reduce: Reduce::Outputs,
            pad_token_id: None,
            do_normalize: false,
            normalization: Normalization::Identity,
            mean: vec![0.0],
            var: vec![1.0],
            statistics: false,
            append_eos: false,
            trunk: None,
        }
    }

    /// The logits of tokens of a language model, `reduce`d to one score.
    pub fn of_tokens(reduce: Reduce) -> Self {
        Self { reduce, ..Self::classifier() }
    }

    /// The head of a process reward model of TRL: two labels for each token, of which the second says that a step is right.
    fn process_reward() -> Self {
        let (weight, bias) = ("score.weight".to_string(), Some("score.bias".to_string()));
        let layers = vec![HeadLayer { weight, bias, outputs: 2 }];
        Self { layers, reduce: Reduce::Probability(1), ..Self::classifier() }
    }

    /// The head among the tensors of a checkpoint whose class does not tell one; `rows` gives the rows of a weight by its
    /// name. `None` when there is none of a known name.
    ///
    /// # Errors
    /// When a statistic in `config` is no number, or a mixture of rewards lacks a part.
    pub(crate) fn from_tensors(
        config: &Value,
        file: &str,
        rows: impl Fn(&str) -> Option<usize>,
        has: impl Fn(&str) -> bool,
    ) -> Result<Option<Self>> {
        let fields = Fields::new(config, file);
        if let Some((layer, mixture)) = Mixture::from_tensors(fields, &rows, &has)? {
            let pad_token_id = fields.token_ids("pad_token_id")?.first().copied();
            let reduce = Reduce::Mixture(mixture);
            return Ok(Some(Self { layers: vec![layer], reduce, pad_token_id, ..Self::classifier() }));
        }
        // OpenRLHF names the head in the configuration.
        let named = fields.text("value_head_prefix").unwrap_or("score");
        let known: [&[&str]; 8] = [
            &[named],
            &["regression_head"],
            &["value_head"],
            &["v_head"],
            &["v_head.summary"],
            &["v_head.summary.0", "v_head.summary.2"],
            &["score.0", "score.2"],
            &["score"],
        ];
        let layer = |name: &&str| {
            let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
            Some(HeadLayer { outputs: rows(&weight)?, weight, bias: has(&bias).then_some(bias) })
        };
        let found = known.into_iter().find_map(|names| names.iter().map(layer).collect::<Option<Vec<_>>>());
        let Some(layers) = found else { return Ok(None) };
        let score_dim = layers.last().map_or(1, |layer| layer.outputs);
        let deviation = statistics(fields, "std", score_dim, 1.0)?;
        let head = Self {
            score_dim,
            layers,
            do_normalize: fields.flag("normalize_reward")?.unwrap_or(false),
            normalization: Normalization::Affine,
            mean: statistics(fields, "mean", score_dim, 0.0)?,
            var: deviation.into_iter().map(|deviation| deviation * deviation).collect(),
            ..Self::classifier()
        };
        Ok(Some(head))
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<HeadLayer> {
        if !self.layers.is_empty() {
            return self.layers.clone();
        }
        let (weight, bias) = match self.family {
            ScoreFamily::SafeRlhf => ("score_head.weight", self.bias.then(|| SCORE_BIAS.to_string())),
            ScoreFamily::SequenceClassification => ("score.weight", None),
        };
        vec![HeadLayer { weight: weight.to_string(), bias, outputs: self.score_dim }]
    }

    /// The rewards and weights that a score is made of, where it is made of several.
    pub fn mixture(&self) -> Option<&Mixture> {
        match &self.reduce {
            Reduce::Mixture(mixture) => Some(mixture),
            Reduce::Outputs | Reduce::Probability(_) => None,
        }
    }

    /// The token of `ids` whose score is that of the whole.
    pub fn end_position(&self, ids: &[u32]) -> usize {
        let last = ids.len().saturating_sub(1);
        match self.pad_token_id {
            // Their code takes the token before the first padding, the last one where there is none.
            Some(pad) if self.mixture().is_some_and(|of| matches!(of.kind, MixtureKind::ByQuestion { .. })) => {
                ids.iter().position(|id| *id == pad).and_then(|first| first.checked_sub(1)).unwrap_or(last)
            }
            // As in transformers, 0 where all tokens are padding.
            Some(pad) => ids.iter().rposition(|id| *id != pad).unwrap_or(0),
            None => last,
        }
    }

    /// Takes note of which optional tensors the checkpoint has.
    pub(super) fn detect(&mut self, has: impl Fn(&str) -> bool) {
        if self.family == ScoreFamily::SafeRlhf {
            self.bias = has(SCORE_BIAS);
            self.statistics = has(MEAN) && has(VAR);
        }
        for layer in &mut self.layers {
            if layer.bias.as_ref().is_some_and(|bias| !has(bias)) {
                layer.bias = None;
            }
        }
    }

    pub(super) fn validate(&self, file: &str) -> Result<()> {
        let lengths = [1.max(self.score_dim), self.mean.len(), self.var.len()];
        if lengths.iter().any(|len| *len != self.score_dim) || self.score_dim > MOST_SCORES {
            return Err(Error::format(
                file,
                format!(
                    "a head of {} scores with {} means and {} variances; expected as many of each, at least one",
                    self.score_dim,
                    self.mean.len(),
                    self.var.len()
                ),
            ));
        }
        Ok(())
    }

    /// The head's parameters on hidden states of this size.
    pub(crate) fn params(&self, hidden_size: usize) -> Vec<Param> {
        let param = |name: &str, rows, cols| Param { name: name.to_string(), shape: [rows, cols] };
        let mut params = Vec::new();
        let mut inputs = hidden_size;
        for HeadLayer { weight, bias, outputs } in self.layers() {
            params.push(param(&weight, outputs, inputs));
            params.extend(bias.map(|bias| param(&bias, 1, outputs)));
            inputs = outputs;
        }
        params.extend(self.mixture().into_iter().flat_map(|mixture| mixture.params(hidden_size)));
        if self.statistics {
            params.push(param(MEAN, 1, self.score_dim));
            params.push(param(VAR, 1, self.score_dim));
        }
        params
    }

    /// Normalises rows of `score_dim` scores, whether or not `do_normalize` asks for it.
    pub fn normalize(&self, scores: &mut [f32]) {
        for row in scores.chunks_exact_mut(self.score_dim.max(1)) {
            for ((score, mean), var) in row.iter_mut().zip(&self.mean).zip(&self.var) {
                let deviation = var.sqrt() + DEVIATION_EPS;
                match self.normalization {
                    Normalization::Affine => *score = (*score - mean) / deviation,
                    Normalization::Scale => *score /= deviation,
                    Normalization::Identity => {}
                }
            }
        }
    }
}

/// Bias of a Safe-RLHF head.
const SCORE_BIAS: &str = "score_head.bias";
/// Mean of the scores.
pub(crate) const MEAN: &str = "normalizer.mean";
/// Variance of the scores.
pub(crate) const VAR: &str = "normalizer.var";

/// The number of labels of a classifier, which transformers writes only as a table.
fn labels(fields: Fields) -> Result<usize> {
    let table = fields.get("id2label").and_then(Value::as_object).map(|labels| labels.len());
    Ok(fields.size("num_labels")?.or(table).unwrap_or(2))
}

fn statistics(fields: Fields, name: &str, len: usize, default: f32) -> Result<Vec<f32>> {
    let values = fields.numbers(name)?.unwrap_or_else(|| vec![default; len]);
    if values.len() == len {
        return Ok(values);
    }
    let problem = format!("\"{name}\": expected {len} numbers, one for each score, found {}", values.len());
    Err(Error::format(fields.file(), problem))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn head(config: Value) -> Result<Option<HeadSpec>> {
        HeadSpec::from_json(&config, "config.json")
    }

    #[test]
    fn old_and_new_configurations_are_read() {
        // beaver-7b-v1.0-reward as first published, and v2.0.
        let old = head(json!({ "architectures": ["LlamaModelForScore"], "bias": false, "score_dim": 1 }));
        let old = old.unwrap().unwrap();
        assert_eq!((old.score_dim, old.do_normalize, old.normalization), (1, false, Normalization::Affine));
        assert_eq!((old.mean, old.var), (vec![0.0], vec![1.0]));
        let new = head(json!({
            "architectures": ["LlamaForScore"], "score_type": "cost", "do_normalize": true, "score_bias": true,
            "normalizer_type": "ExponentialMovingAverage", "momentum": 0.9, "mean": [-0.07568359375], "var": [3.1875]
        }));
        let new = new.unwrap().unwrap();
        assert!(new.do_normalize);
        assert_eq!((new.normalization, new.mean[0], new.var[0]), (Normalization::Scale, -0.075_683_594, 3.1875));
        let classifier = json!({ "architectures": ["LlamaForSequenceClassification"], "id2label": { "0": "LABEL_0" } });
        assert_eq!(head(classifier).unwrap().unwrap().score_dim, 1);
        assert!(head(json!({ "architectures": ["LlamaForCausalLM"] })).unwrap().is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            json!({ "score_dim": 0 }),
            json!({ "score_type": "beauty" }),
            json!({ "normalizer_type": "Median" }),
            json!({ "mean": [1.0, 2.0] }),
            json!({ "trunk": 7 }),
        ] {
            let mut config = json!({ "architectures": ["LlamaForScore"] });
            config.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
            assert!(head(config).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_kinds_of_normalization() {
        let mut head = HeadSpec::classifier();
        (head.mean, head.var) = (vec![1.0], vec![4.0]);
        for (kind, expected) in
            [(Normalization::Affine, 2.0), (Normalization::Scale, 2.5), (Normalization::Identity, 5.0)]
        {
            head.normalization = kind;
            let mut scores = [5.0];
            head.normalize(&mut scores);
            assert_eq!(scores, [expected], "{kind:?}");
        }
    }

    #[test]
    fn heads_are_known_by_their_tensors() {
        let find = |config: Value, tensors: &[(&str, usize)]| {
            let rows = |name: &str| tensors.iter().find(|(known, _)| *known == name).map(|(_, rows)| *rows);
            HeadSpec::from_tensors(&config, "config.json", rows, |name| rows(name).is_some()).unwrap()
        };
        let names = |head: &HeadSpec| -> Vec<String> { head.params(8).into_iter().map(|param| param.name).collect() };
        assert!(find(json!({}), &[("lm_head.weight", 9)]).is_none());
        let ultra = find(json!({}), &[("regression_head.weight", 1)]).unwrap();
        assert_eq!(names(&ultra), ["regression_head.weight"]);
        let ziya = find(json!({}), &[("value_head.weight", 1), ("value_head.bias", 1)]).unwrap();
        assert_eq!(names(&ziya), ["value_head.weight", "value_head.bias"]);
        let openrlhf =
            json!({ "value_head_prefix": "value_head", "normalize_reward": true, "mean": 1.5, "std": "0.5" });
        let openrlhf = find(openrlhf, &[("value_head.weight", 1)]).unwrap();
        let mut scores = [2.0];
        openrlhf.normalize(&mut scores);
        assert_eq!((openrlhf.do_normalize, scores), (true, [1.0]));
        let orm = [("score.0.weight", 8), ("score.0.bias", 1), ("score.2.weight", 1), ("score.2.bias", 1)];
        let orm = find(json!({}), &orm).unwrap();
        assert_eq!(names(&orm), ["score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias"]);
        assert_eq!(orm.params(8)[0].shape, [8, 8]);
        assert_eq!(orm.params(8)[2].shape, [1, 8]);
    }

    #[test]
    fn the_last_token_that_is_no_padding_has_the_score() {
        let config = json!({ "architectures": ["LlamaForSequenceClassification"], "pad_token_id": 2, "num_labels": 1 });
        let classifier = head(config).unwrap().unwrap();
        assert_eq!(classifier.end_position(&[1, 7, 2]), 1);
        assert_eq!(classifier.end_position(&[1, 2, 9]), 2);
        assert_eq!(classifier.end_position(&[2, 2]), 0);
        let reward = head(json!({ "architectures": ["LlamaForScore"], "pad_token_id": 2 })).unwrap().unwrap();
        assert_eq!(reward.end_position(&[1, 7, 2]), 2);
    }

    #[test]
    fn each_score_has_statistics_of_its_own() {
        let mut head = HeadSpec::classifier();
        head.score_dim = 2;
        (head.mean, head.var) = (vec![1.0, -2.0], vec![4.0, 0.25]);
        for (kind, expected) in
            [(Normalization::Affine, [2.0, 14.0, 0.0, 4.0]), (Normalization::Scale, [2.5, 10.0, 0.5, 0.0])]
        {
            head.normalization = kind;
            let mut scores = [5.0, 5.0, 1.0, 0.0];
            head.normalize(&mut scores);
            assert_eq!(scores, expected, "{kind:?}");
        }
    }
}
