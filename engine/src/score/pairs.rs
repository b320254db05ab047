//! Models that say which of two answers they prefer (RLHFlow's pair-preference-model-LLaMA3-8B, arXiv 2405.07863).

use super::Conversation;
use crate::prompt::{Message, Role, Template};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// The two orders of every pair of `answers`: as A and B, then as B and A.
///
/// # Errors
/// When there are fewer than two answers, or the model's chat template does not serve.
pub(super) fn comparisons(
    messages: &[Message],
    answers: &[String],
    template: &Template,
    tokenizer: &Tokenizer,
) -> Result<Vec<Conversation>> {
    if answers.len() < 2 {
        return Err(alone());
    }
    let mut conversations = Vec::new();
    for (one, other) in pairs(answers.len()) {
        for [a, b] in [[one, other], [other, one]] {
            let question = question(messages, &answers[a], &answers[b]);
            let ids = template.turn_ids(&[Message::new(Role::User, question)], tokenizer)?;
            conversations.push(Conversation { ids, answer_start: 0, steps: Vec::new() });
        }
    }
    Ok(conversations)
}

/// The mean probability with which each answer is preferred to another, from the probabilities of A in the conversations of
/// [`comparisons`].
pub(super) fn preferences(answers: usize, of_a: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; answers];
    for ((one, other), orders) in pairs(answers).zip(of_a.chunks_exact(2)) {
        let preferred = f32::midpoint(orders[0], 1.0 - orders[1]);
        sums[one] += preferred;
        sums[other] += 1.0 - preferred;
    }
    sums.into_iter().map(|sum| sum / answers.saturating_sub(1).max(1) as f32).collect()
}

/// The error for an answer that is not compared with another.
pub(super) fn alone() -> Error {
    Error::Request(
        "this model says which of two answers it prefers; give at least two answers to one question".to_string(),
    )
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |one| (one + 1..count).map(move |other| (one, other)))
}

/// What the model is asked, letter for letter.
fn question(messages: &[Message], a: &str, b: &str) -> String {
    let turn = |message: &Message| match message.role {
        Role::Assistant => format!("\n<turn> assistant\n {}", message.content),
        Role::System | Role::User => format!("\n<turn> user\n {}", message.content),
    };
    let context: String = messages.iter().map(turn).collect();
    format!("[CONTEXT] \n{context}\n [RESPONSE A] {a} [RESPONSE B] {b} \n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_that_of_the_training_data() {
        let messages = [Message::new(Role::User, "Name a fruit.")];
        let expected = "[CONTEXT] \n\n<turn> user\n Name a fruit.\n [RESPONSE A] Fig. [RESPONSE B] Stone. \n";
        assert_eq!(question(&messages, "Fig.", "Stone."), expected);
    }

    #[test]
    fn both_orders_count_alike() {
        // The first is preferred in either order, by 0.9 and by 1 − 0.3.
        let found = preferences(2, &[0.9, 0.3]);
        assert!((found[0] - 0.8).abs() < 1e-6 && (found[1] - 0.2).abs() < 1e-6, "{found:?}");
        let three = preferences(3, &[1.0, 0.0, 0.5, 0.5, 0.0, 1.0]);
        assert_eq!(three, [0.75, 0.0, 0.75]);
    }
}
