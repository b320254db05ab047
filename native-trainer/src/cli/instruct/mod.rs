//! `paddock instruct`: instruction data, made by a model and looked after.

mod diversity;
mod filter;
mod generate;
mod merge;
mod split;
mod stats;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::HumanCount;

use crate::Result;
use crate::instruct::Dropped;

/// Make instruction data with a model, filter it, and see what is in it
#[derive(Debug, Args)]
pub(super) struct Instruct {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Generate(Box<generate::Generate>),
    Filter(Box<filter::FilterRows>),
    Merge(merge::Merge),
    Split(split::Split),
    Stats(stats::ShowStats),
    Diversity(diversity::ShowDiversity),
}

impl Instruct {
    pub fn run(&self) -> Result<ExitCode> {
        match &self.action {
            Action::Generate(generate) => return generate.run(),
            Action::Filter(filter) => filter.run(),
            Action::Merge(merge) => merge.run(),
            Action::Split(split) => split.run(),
            Action::Stats(stats) => stats.run(),
            Action::Diversity(diversity) => diversity.run(),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// What was left out and why, a line each, the most frequent first.
fn dropped_lines(dropped: &Dropped) -> String {
    let mut reasons: Vec<(&str, usize)> = dropped.reasons().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    reasons
        .iter()
        .map(|(reason, count)| format!("\n  {:>7}  {reason}", HumanCount(*count as u64).to_string()))
        .collect()
}
