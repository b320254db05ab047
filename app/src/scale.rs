//! Scores as ranks and as colours.

use crate::protocol::Scored;

/// The index of each of the answer's tokens in the conversation, with the ranking score after it.
pub fn answer_scores(scored: &Scored) -> impl Iterator<Item = (usize, f32)> {
    let scores = scored.scores.iter().step_by(scored.score_dim.max(1));
    scores.copied().enumerate().skip(scored.answer_start)
}

/// The name of the answer at `index`: A, B, … Z, then numbers.
pub fn letter(index: usize) -> String {
    match u8::try_from(index) {
        Ok(index @ 0..26) => char::from(b'A' + index).to_string(),
        _ => (index + 1).to_string(),
    }
}

/// The range from the lowest to the highest score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreScale {
    /// The lowest score.
    pub min: f32,
    /// The highest score.
    pub max: f32,
}

impl ScoreScale {
    /// The scale of these scores; `None` when there are none.
    pub fn of(scores: impl Iterator<Item = f32>) -> Option<Self> {
        scores
            .map(|score| Self { min: score, max: score })
            .reduce(|a, b| Self { min: a.min.min(b.min), max: a.max.max(b.max) })
    }

    /// Halfway.
    pub fn middle(&self) -> f32 {
        f32::midpoint(self.min, self.max)
    }

    /// Where a score lies: −1 for the lowest, 0 halfway, 1 for the highest.
    pub fn place(&self, score: f32) -> f32 {
        let half = (self.max - self.min) / 2.0;
        if half > 0.0 { ((score - self.middle()) / half).clamp(-1.0, 1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_letters_then_numbers() {
        assert_eq!([0, 25, 26].map(letter), ["A", "Z", "27"]);
    }
}
