//! What goes wrong in such runs, in plain words.

use super::PpoSettings;

/// What the alarms look at, of one iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Signs {
    /// Mean of −log p of the sampled tokens.
    pub entropy: f64,
    /// Mean length of the answers.
    pub length: f64,
    pub reward: f64,
    /// 0 without a cost.
    pub cost: f64,
    /// Loss of the reward critic; 0 without one.
    pub value_loss: f64,
    /// Mean KL of an answer.
    pub kl: f64,
    /// Part of the answers that were cut.
    pub cut: f64,
    /// Part of the answers that are like another to the same prompt.
    pub equal_rewards: bool,
}

impl Signs {
    /// Those that are compared with the first iteration's.
    pub fn compared(&self) -> [f64; 5] {
        [self.entropy, self.length, self.reward, self.cost, self.value_loss]
    }
}

/// The sentences that are to be said; `first` is [`Signs::compared`] of the first iteration.
pub(super) fn alarms(settings: &PpoSettings, signs: &Signs, first: [f64; 5]) -> Vec<String> {
    let [entropy, length, reward, cost, value_loss] = first;
    let mut alarms = Vec::new();
    let mut say = |alarming: bool, text: String| {
        if alarming {
            alarms.push(text);
        }
    };
    say(
        signs.kl > settings.max_kl,
        format!(
            "the KL of an answer is {:.1}, above {}: the actor leaves its reference; raise --kl-coeff or lower --learning-rate",
            signs.kl, settings.max_kl
        ),
    );
    say(
        signs.kl < -0.5 && settings.kl_coeff > 0.0,
        format!(
            "the KL of an answer is {:.2}, below 0: answers are less probable for the actor than for its reference",
            signs.kl
        ),
    );
    say(
        signs.entropy < 0.1 * entropy,
        format!("answers have become near certain: -log p of a token is {:.3}, and was {entropy:.3}", signs.entropy),
    );
    say(
        signs.length < 0.25 * length,
        format!("answers have {:.1} tokens, and had {length:.1}: lengths collapse", signs.length),
    );
    say(
        signs.cut >= 1.0,
        "every answer was cut at --max-new-tokens, so none shows the end that its score is about; raise it".to_string(),
    );
    say(signs.equal_rewards, "all answers were given the same reward: there is nothing to learn from them".to_string());
    say(
        settings.has_constraint() && signs.cost > settings.threshold && signs.cost > cost && signs.reward > reward,
        format!(
            "the reward has risen to {:.3}, and with it the cost to {:.3}, above the threshold of {}; raise --lambda-lr or \
             --lambda-max",
            signs.reward, signs.cost, settings.threshold
        ),
    );
    say(
        value_loss > 0.0 && signs.value_loss > 10.0 * value_loss,
        format!(
            "the critic comes apart: its loss is {:.3}, and was {value_loss:.3}; lower --critic-lr",
            signs.value_loss
        ),
    );
    alarms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_has_its_alarm() {
        let settings = PpoSettings { cost_model: Some("c".into()), ..PpoSettings::default() };
        let well = Signs {
            entropy: 2.0,
            length: 40.0,
            reward: 1.0,
            cost: -1.0,
            value_loss: 0.5,
            kl: 3.0,
            cut: 0.5,
            equal_rewards: false,
        };
        let said = |signs: Signs| alarms(&settings, &signs, well.compared());
        assert_eq!(said(well), [""; 0]);
        for (signs, word) in [
            (Signs { kl: 51.0, ..well }, "leaves its reference"),
            (Signs { kl: -1.0, ..well }, "below 0"),
            (Signs { entropy: 0.1, ..well }, "near certain"),
            (Signs { length: 9.0, ..well }, "collapse"),
            (Signs { cut: 1.0, ..well }, "cut"),
            (Signs { equal_rewards: true, ..well }, "same reward"),
            (Signs { reward: 2.0, cost: 0.5, ..well }, "threshold"),
            (Signs { value_loss: 6.0, ..well }, "critic"),
        ] {
            let said = said(signs);
            assert!(said.len() == 1 && said[0].contains(word), "{word}: {said:?}");
        }
    }
}
