//! The learning rate over a run, as transformers' `optimization.py` has it.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine, to 0.
    #[default]
    Cosine,
    /// A straight line, to 0.
    Linear,
    /// Not at all.
    Constant,
}

impl Schedule {
    const ALL: [(&'static str, Self); 3] =
        [("cosine", Self::Cosine), ("linear", Self::Linear), ("constant", Self::Constant)];

    /// The factor of the base rate at step `step`, from 0 on, of `total` steps, the first `warmup` of which rise from 0.
    pub fn factor(self, step: u64, warmup: u64, total: u64) -> f64 {
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        let progress = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
            Self::Linear => (1.0 - progress).max(0.0),
            Self::Constant => 1.0,
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, schedule)| schedule == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, schedule)| *schedule).ok_or_else(|| {
            Error::Request(format!("the schedule \"{name}\" is not known; choose cosine, linear or constant"))
        })
    }
}

/// How the steps of the warm-up, a part of all steps, become a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// Up, as in transformers' `Trainer`.
    #[default]
    Up,
    /// Down, as in Safe-RLHF.
    Down,
}

impl Rounding {
    /// The steps of a warm-up over `ratio` of `total` steps.
    pub fn warmup(self, ratio: f64, total: u64) -> u64 {
        let steps = ratio * total as f64;
        match self {
            Self::Up => steps.ceil() as u64,
            Self::Down => steps as u64,
        }
    }
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

impl FromStr for Rounding {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "up" => Ok(Self::Up),
            "down" => Ok(Self::Down),
            _ => Err(Error::Request(format!("\"{name}\" is no rounding; choose up or down"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates of transformers' `get_cosine_schedule_with_warmup` and `get_linear_schedule_with_warmup`.
    #[test]
    fn rates_are_those_of_transformers() {
        let near = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got} not {expected}");
        let cosine = |step| Schedule::Cosine.factor(step, 2, 20);
        near(cosine(0), 0.0);
        near(cosine(1), 0.5);
        near(cosine(2), 1.0);
        near(cosine(3), 0.992403876506104);
        near(cosine(19), 0.007_596_123_493_895_97);
        near(Schedule::Linear.factor(11, 2, 20), 0.5);
        near(Schedule::Constant.factor(19, 2, 20), 1.0);
        near(Schedule::Constant.factor(1, 2, 20), 0.5);
        // A run that is all warm-up.
        near(Schedule::Cosine.factor(3, 4, 4), 0.75);
    }

    #[test]
    fn a_part_of_all_steps_is_rounded_as_asked() {
        assert_eq!([Rounding::Up, Rounding::Down].map(|rounding| rounding.warmup(0.1, 25)), [3, 2]);
        assert_eq!([Rounding::Up, Rounding::Down].map(|rounding| rounding.warmup(0.5, 8)), [4, 4]);
        for rounding in [Rounding::Up, Rounding::Down] {
            assert_eq!(rounding.to_string().parse::<Rounding>().unwrap(), rounding);
        }
        assert!("nearest".parse::<Rounding>().is_err());
    }
}
