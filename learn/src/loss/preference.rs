//! The losses of DPO and its relatives, of the log-probabilities of two answers, in the form of TRL's trainers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::minus_log_sigmoid;
use crate::Error;

/// Which loss of a preference.
///
/// Δ is the difference of the two answers' log ratios `log π − log ref`, r⁺ and r⁻ these ratios themselves, l⁺ and l⁻ the
/// log-probabilities; a bar stands for the mean over an answer's tokens instead of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreferenceKind {
    /// `−(1−ε) log σ(βΔ) − ε log σ(−βΔ)`: DPO (arXiv 2305.18290), and cDPO with a label smoothing of ε.
    #[default]
    Sigmoid,
    /// `(Δ̄ − 1/(2β))²` (arXiv 2310.12036).
    Ipo,
    /// `max(0, 1 − βΔ)` (SLiC, arXiv 2305.10425).
    Hinge,
    /// `[−(1−ε) log σ(βΔ) + ε log σ(−βΔ)] / (1−2ε)` (arXiv 2403.00409).
    Robust,
    /// `1 − σ(βr⁺) + σ(βr⁻)` (arXiv 2408.06266).
    ApoZero,
    /// `σ(βr⁺) + 1 − σ(βΔ)` (arXiv 2408.06266).
    ApoDown,
    /// `Sigmoid` of Δ̄ (Tülu 3).
    SigmoidNorm,
    /// `−log σ(β(l̄⁺ − l̄⁻) − γ)` (arXiv 2405.14734).
    #[serde(rename = "simpo")]
    SimPo,
    /// `−β log σ(o)` beside the answer's own loss, o the difference of the log odds of l̄⁺ and l̄⁻ (arXiv 2403.07691).
    Orpo,
    /// `−log σ(β(l⁺ − l⁻))` beside the answer's own loss (arXiv 2401.08417).
    Cpo,
    /// One answer at a time, of which it is known whether it is wanted (arXiv 2402.01306).
    Kto,
}

impl PreferenceKind {
    const ALL: [(&'static str, Self); 11] = [
        ("sigmoid", Self::Sigmoid),
        ("ipo", Self::Ipo),
        ("hinge", Self::Hinge),
        ("robust", Self::Robust),
        ("apo-zero", Self::ApoZero),
        ("apo-down", Self::ApoDown),
        ("sigmoid-norm", Self::SigmoidNorm),
        ("simpo", Self::SimPo),
        ("orpo", Self::Orpo),
        ("cpo", Self::Cpo),
        ("kto", Self::Kto),
    ];

    /// Whether it compares the model with a reference.
    pub fn has_reference(self) -> bool {
        !matches!(self, Self::SimPo | Self::Orpo | Self::Cpo)
    }

    /// Whether it takes means over tokens by its definition.
    fn is_normalized(self) -> bool {
        matches!(self, Self::Ipo | Self::SigmoidNorm | Self::SimPo | Self::Orpo)
    }
}

impl fmt::Display for PreferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for PreferenceKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let names = Self::ALL.map(|(known, _)| known).join(", ");
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| Error::Request(format!("the loss \"{name}\" is not known; choose one of {names}")))
    }
}

/// A loss of preferences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreferenceLoss {
    /// Which one.
    pub kind: PreferenceKind,
    /// β: how strongly the model is held to its reference, or the scale of what takes its place.
    pub beta: f64,
    /// ε: the probability that a preference is the wrong way round.
    pub label_smoothing: f64,
    /// γ of SimPO.
    pub gamma: f64,
    /// Means over tokens in the place of sums, also where the definition has none.
    pub length_normalized: bool,
    /// Weights of wanted and unwanted answers in KTO.
    pub weights: [f64; 2],
}

/// What the model and its reference make of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AnswerLogProbs {
    /// Sum of the model's log-probabilities of its tokens.
    pub policy: f64,
    /// The same by the reference; 0 where there is none.
    pub reference: f64,
    /// How many tokens these are.
    pub tokens: usize,
}

impl AnswerLogProbs {
    /// The log ratio of the sums.
    pub fn ratio(&self) -> f64 {
        self.policy - self.reference
    }
}

/// A pair's loss, and its gradient by the model's two sums of log-probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PreferenceSeeds {
    /// The loss.
    pub loss: f64,
    /// Gradient by that of the chosen answer.
    pub chosen: f64,
    /// Gradient by that of the rejected one.
    pub rejected: f64,
}

impl PreferenceLoss {
    /// The loss of a pair, without the part of it that is the chosen answer's own.
    pub fn of(&self, chosen: &AnswerLogProbs, rejected: &AnswerLogProbs) -> PreferenceSeeds {
        let normalized = self.length_normalized || self.kind.is_normalized();
        let scale = |answer: &AnswerLogProbs| if normalized { 1.0 / answer.tokens.max(1) as f64 } else { 1.0 };
        let scales = [scale(chosen), scale(rejected)];
        let with_reference = self.kind.has_reference();
        let value = |answer: &AnswerLogProbs| if with_reference { answer.ratio() } else { answer.policy };
        let [plus, minus] = [value(chosen) * scales[0], value(rejected) * scales[1]];
        // The loss, and its slopes by the two values.
        let (loss, by_plus, by_minus) = self.of_values(plus, minus);
        PreferenceSeeds { loss, chosen: by_plus * scales[0], rejected: by_minus * scales[1] }
    }

    fn of_values(&self, plus: f64, minus: f64) -> (f64, f64, f64) {
        let (beta, smoothing) = (self.beta, self.label_smoothing);
        // `a·(−log σ(x)) + b·(−log σ(−x))` with x = β(plus − minus) − γ.
        let sigmoids = |a: f64, b: f64, gamma: f64| {
            let x = beta * (plus - minus) - gamma;
            let ((right, right_slope), (wrong, wrong_slope)) = (minus_log_sigmoid(x), minus_log_sigmoid(-x));
            let slope = beta * (a * right_slope - b * wrong_slope);
            (a * right + b * wrong, slope, -slope)
        };
        match self.kind {
            PreferenceKind::Sigmoid | PreferenceKind::SigmoidNorm | PreferenceKind::Cpo | PreferenceKind::Kto => {
                sigmoids(1.0 - smoothing, smoothing, 0.0)
            }
            PreferenceKind::SimPo => sigmoids(1.0 - smoothing, smoothing, self.gamma),
            PreferenceKind::Robust => {
                let scale = 1.0 / (1.0 - 2.0 * smoothing);
                sigmoids((1.0 - smoothing) * scale, -smoothing * scale, 0.0)
            }
            PreferenceKind::Ipo => {
                let off = plus - minus - 1.0 / (2.0 * beta);
                (off * off, 2.0 * off, -2.0 * off)
            }
            PreferenceKind::Hinge => {
                let lacking = 1.0 - beta * (plus - minus);
                let slope = if lacking > 0.0 { beta } else { 0.0 };
                (lacking.max(0.0), -slope, slope)
            }
            PreferenceKind::ApoZero => {
                let ([right, right_slope], [wrong, wrong_slope]) = (sigmoid(beta * plus), sigmoid(beta * minus));
                (1.0 - right + wrong, -beta * right_slope, beta * wrong_slope)
            }
            PreferenceKind::ApoDown => {
                let ([own, own_slope], [margin, slope]) = (sigmoid(beta * plus), sigmoid(beta * (plus - minus)));
                (own + 1.0 - margin, beta * (own_slope - slope), beta * slope)
            }
            PreferenceKind::Orpo => {
                let ([plus_odds, plus_slope], [minus_odds, minus_slope]) = (log_odds(plus), log_odds(minus));
                let (loss, slope) = minus_log_sigmoid(plus_odds - minus_odds);
                (beta * loss, beta * slope * plus_slope, -beta * slope * minus_slope)
            }
        }
    }

    /// KTO's loss of one answer, `wanted` or not, and its gradient by the model's log-probability. `divergence` is the mean
    /// log ratio of mismatched answers, without a gradient; below 0 it counts as 0.
    pub fn of_answer(&self, answer: &AnswerLogProbs, wanted: bool, divergence: f64) -> (f64, f64) {
        let sign = if wanted { 1.0 } else { -1.0 };
        let weight = if wanted { self.weights[0] } else { self.weights[1] };
        let [value, slope] = sigmoid(sign * self.beta * (answer.ratio() - divergence.max(0.0)));
        (weight * (1.0 - value), -weight * sign * self.beta * slope)
    }
}

/// `σ(x)` and its slope.
fn sigmoid(x: f64) -> [f64; 2] {
    let value = 1.0 / (1.0 + (-x).exp());
    [value, value * (1.0 - value)]
}

/// `log(p / (1 − p))` of a log-probability, and its slope by it.
fn log_odds(log_prob: f64) -> [f64; 2] {
    // Of a certain answer, which rounding can make of one that is nearly so, they would be infinite.
    let log_prob = log_prob.min(-1e-12);
    let rest = -log_prob.exp_m1();
    [log_prob - rest.ln(), 1.0 / rest]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(kind: PreferenceKind) -> PreferenceLoss {
        PreferenceLoss {
            kind,
            beta: 0.3,
            label_smoothing: 0.1,
            gamma: 0.5,
            length_normalized: false,
            weights: [1.0, 0.7],
        }
    }

    const CHOSEN: AnswerLogProbs = AnswerLogProbs { policy: -7.0, reference: -8.5, tokens: 5 };
    const REJECTED: AnswerLogProbs = AnswerLogProbs { policy: -9.0, reference: -8.0, tokens: 3 };

    /// As TRL writes them (`dpo_trainer.py`, `cpo_trainer.py`, `orpo_trainer.py`), term by term.
    fn of_trl(loss: &PreferenceLoss, chosen: &AnswerLogProbs, rejected: &AnswerLogProbs) -> f64 {
        let log_sigmoid = |x: f64| -(1.0 + (-x).exp()).ln();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (beta, eps) = (loss.beta, loss.label_smoothing);
        let [c, r] = [chosen, rejected].map(|answer| answer.policy - answer.reference);
        let [c_mean, r_mean] = [chosen, rejected].map(|answer| answer.ratio() / answer.tokens as f64);
        let [c_own, r_own] = [chosen, rejected].map(|answer| answer.policy / answer.tokens as f64);
        let smooth = |x: f64| -(1.0 - eps) * log_sigmoid(x) - eps * log_sigmoid(-x);
        match loss.kind {
            PreferenceKind::Sigmoid => smooth(beta * (c - r)),
            PreferenceKind::Ipo => (c_mean - r_mean - 1.0 / (2.0 * beta)).powi(2),
            PreferenceKind::Hinge => (1.0 - beta * (c - r)).max(0.0),
            PreferenceKind::Robust => {
                (-log_sigmoid(beta * (c - r)) * (1.0 - eps) + log_sigmoid(-beta * (c - r)) * eps) / (1.0 - 2.0 * eps)
            }
            PreferenceKind::ApoZero => 1.0 - sigmoid(beta * c) + sigmoid(beta * r),
            PreferenceKind::ApoDown => sigmoid(beta * c) + 1.0 - sigmoid(beta * (c - r)),
            PreferenceKind::SigmoidNorm => smooth(beta * (c_mean - r_mean)),
            PreferenceKind::SimPo => smooth(beta * (c_own - r_own - loss.gamma / beta)),
            PreferenceKind::Orpo => {
                let odds = (c_own - r_own) - ((1.0 - c_own.exp()).ln() - (1.0 - r_own.exp()).ln());
                -beta * log_sigmoid(odds)
            }
            PreferenceKind::Cpo | PreferenceKind::Kto => smooth(beta * (chosen.policy - rejected.policy)),
        }
    }

    #[test]
    fn losses_are_those_of_trl_and_gradients_their_slopes() {
        for (name, kind) in PreferenceKind::ALL.into_iter().filter(|(_, kind)| *kind != PreferenceKind::Kto) {
            let loss = loss(kind);
            let got = loss.of(&CHOSEN, &REJECTED);
            let expected = of_trl(&loss, &CHOSEN, &REJECTED);
            assert!((got.loss - expected).abs() < 1e-12, "{name}: {}, expected {expected}", got.loss);
            let shifted = |chosen: f64, rejected: f64| {
                let mut pair = [CHOSEN, REJECTED];
                (pair[0].policy, pair[1].policy) = (pair[0].policy + chosen, pair[1].policy + rejected);
                of_trl(&loss, &pair[0], &pair[1])
            };
            let by_chosen = (shifted(1e-5, 0.0) - shifted(-1e-5, 0.0)) / 2e-5;
            let by_rejected = (shifted(0.0, 1e-5) - shifted(0.0, -1e-5)) / 2e-5;
            assert!((got.chosen - by_chosen).abs() < 1e-9, "{name}: {}, expected {by_chosen}", got.chosen);
            assert!((got.rejected - by_rejected).abs() < 1e-9, "{name}: {}, expected {by_rejected}", got.rejected);
        }
    }

    #[test]
    fn lengths_count_where_they_are_asked_for() {
        let mut normalized = PreferenceLoss { length_normalized: true, ..loss(PreferenceKind::Sigmoid) };
        let expected = loss(PreferenceKind::SigmoidNorm).of(&CHOSEN, &REJECTED);
        assert_eq!(normalized.of(&CHOSEN, &REJECTED), expected);
        normalized.length_normalized = false;
        assert_ne!(normalized.of(&CHOSEN, &REJECTED), expected);
    }

    #[test]
    fn ktos_loss_is_trls() {
        let loss = loss(PreferenceKind::Kto);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for (wanted, divergence) in [(true, 0.4), (false, 0.4), (true, -0.4), (false, -0.4)] {
            let of = |policy: f64| {
                let ratio = policy - CHOSEN.reference;
                let kl = f64::max(divergence, 0.0);
                match wanted {
                    true => loss.weights[0] * (1.0 - sigmoid(loss.beta * (ratio - kl))),
                    false => loss.weights[1] * (1.0 - sigmoid(loss.beta * (kl - ratio))),
                }
            };
            let (got, slope) = loss.of_answer(&CHOSEN, wanted, divergence);
            assert!((got - of(CHOSEN.policy)).abs() < 1e-12);
            let expected = (of(CHOSEN.policy + 1e-5) - of(CHOSEN.policy - 1e-5)) / 2e-5;
            assert!((slope - expected).abs() < 1e-9, "{slope}, expected {expected}");
        }
    }

    #[test]
    fn certain_answers_stay_finite() {
        let sure = AnswerLogProbs { policy: 0.0, reference: 0.0, tokens: 1 };
        for (name, kind) in PreferenceKind::ALL {
            let got = loss(kind).of(&sure, &REJECTED);
            assert!([got.loss, got.chosen, got.rejected].into_iter().all(f64::is_finite), "{name}: {got:?}");
            assert_eq!(name.parse::<PreferenceKind>().unwrap().to_string(), name);
        }
        assert!("dpo".parse::<PreferenceKind>().is_err());
    }

    /// As PyTorch's `relu` has it.
    #[test]
    fn at_its_corner_a_hinge_has_no_slope() {
        let hinge = PreferenceLoss { beta: 0.5, ..loss(PreferenceKind::Hinge) };
        assert_eq!(hinge.of_values(2.0, 0.0), (0.0, 0.0, 0.0));
        assert_eq!(hinge.of_values(0.0, 0.0), (1.0, -0.5, 0.5));
    }

    #[test]
    fn apo_zeros_rejected_answers_are_scaled_by_beta() {
        let apo = loss(PreferenceKind::ApoZero);
        let rejected = AnswerLogProbs { policy: -9.0, reference: -6.5, tokens: 3 };
        let expected = of_trl(&apo, &CHOSEN, &rejected);
        assert!((apo.of(&CHOSEN, &rejected).loss - expected).abs() < 1e-12);
    }
}
