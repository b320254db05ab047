//! Questions to a teacher by way of the journal: what it knows is not asked again.

use std::time::Instant;

use super::generate::Ended;
use super::journal::{Journal, Place};
use super::teacher::Teacher;
use super::{Ask, Usage};
use crate::Result;

/// What may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// Nothing is asked after more is spent than this.
    pub max_cost: Option<f64>,
    /// Prices of a million tokens read and written.
    pub prices: [f64; 2],
}

impl Budget {
    /// What `usage` cost.
    pub fn cost(&self, usage: Usage) -> f64 {
        (usage.prompt_tokens as f64 * self.prices[0] + usage.completion_tokens as f64 * self.prices[1]) / 1e6
    }
}

/// Has all of `asks` answered that the journal does not know; `usage` is what was spent before, and grows. `answered` is told
/// how many have an answer. Returns why it ended when that was before the last.
///
/// # Errors
/// When the teacher fails for good, or the journal cannot be written or answers other questions at these places; what was
/// answered is in the journal.
pub fn ask_all(
    asks: &[(Place, Ask)],
    journal: &mut Journal,
    teacher: &mut dyn Teacher,
    budget: Budget,
    stop: &dyn Fn() -> bool,
    usage: &mut Usage,
    answered: &mut dyn FnMut(usize),
) -> Result<Option<Ended>> {
    let mut open = Vec::new();
    for (place, ask) in asks {
        if journal.answer(*place, ask)?.is_none() {
            open.push((*place, ask));
        }
    }
    answered(asks.len() - open.len());
    if open.is_empty() {
        return Ok(None);
    }
    let mut ended = None;
    let mut may_go_on = |usage: Usage| {
        let cost = budget.max_cost.is_some_and(|most| budget.cost(usage) >= most);
        ended = ended.take().or_else(|| stop().then_some(Ended::Stopped)).or(cost.then_some(Ended::Cost));
        ended.is_none()
    };
    if !may_go_on(*usage) {
        return Ok(ended);
    }
    let started = Instant::now();
    let only: Vec<&Ask> = open.iter().map(|(_, ask)| *ask).collect();
    let mut left = open.len();
    teacher.ask(&only, stop, &mut |index, completion| {
        let (place, ask) = open[index];
        *usage = usage.plus(completion.usage.unwrap_or_default());
        journal.add(place, ask, completion, started.elapsed().as_secs_f64())?;
        left -= 1;
        answered(asks.len() - left);
        Ok(may_go_on(*usage))
    })?;
    Ok(match left {
        0 => None,
        _ => ended.or(Some(Ended::Stopped)),
    })
}
