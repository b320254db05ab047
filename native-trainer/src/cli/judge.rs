//! Flags of a language model that judges, and its run.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::HumanCount;
use paddock_engine::prompt::TemplateKind;
use serde_json::json;

use super::console;
use super::interrupt::Interrupt;
use super::progress::Counter;
use super::teacher::{Asked, ServerFlags};
use crate::arena::{JudgeMode, Judging, Results};
use crate::files::open_model;
use crate::instruct::teacher::{Server, Teacher};
use crate::instruct::{Ended, Journal, keep_settings};
use crate::signals::Signal;
use crate::{Error, Result};

/// Who judges, and how it is asked.
#[derive(Debug, Args)]
pub(super) struct JudgeFlags {
    /// A language model that judges the answers, too: local:PATH, or the address of a server that speaks OpenAI's protocol
    #[arg(long, value_name = "local:PATH|URL")]
    pub judge: Option<String>,
    /// The judge's name on a server [default: the first that it offers]
    #[arg(long, value_name = "NAME", requires = "judge")]
    judge_model: Option<String>,
    /// What it is asked: pairs (which answer is better, in both orders), scores (each answer from 1 to 10), both
    #[arg(long, value_enum, default_value = "pairs", value_name = "NAME")]
    judge_mode: JudgeMode,
    /// Most tokens of what it says; an answer that breaks off there is not read
    #[arg(long, default_value_t = 1024, value_name = "N")]
    judge_max_tokens: usize,
    /// How messages become a prompt of a local judge: auto (its own chat template, if any), none, alpaca, safe-rlhf
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    pub judge_template: TemplateKind,
    /// Questions to the judge at a time
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    #[command(flatten)]
    server: ServerFlags,
}

/// What came of it.
pub(super) enum Judged {
    /// Every question is answered; the answers are in this file.
    All(PathBuf),
    /// Someone asked it to stop.
    Stopped(Signal),
}

impl JudgeFlags {
    /// Finds a judge that is a server; of one that is not, looks whether it is there. Long before it is asked.
    pub fn server(&self) -> Result<Option<Server>> {
        let Some(address) = &self.judge else { return Ok(None) };
        if let Some(path) = address.strip_prefix("local:") {
            open_model(Path::new(path), None)?;
            return Ok(None);
        }
        let server = self.server.connect(Asked {
            role: "judge",
            address,
            model: self.judge_model.as_deref(),
            concurrency: self.concurrency,
            turn: None,
        })?;
        Ok(Some(server))
    }

    /// Has `judge` judge `results`, with a journal in `folder`, from which the same command goes on.
    pub fn ask(&self, results: &mut Results, judge: &mut dyn Teacher, folder: &Path) -> Result<Judged> {
        fs::create_dir_all(folder).map_err(Error::path("create", folder))?;
        keep_settings(folder, &json!({ "judge": self.judge, "model": judge.name() }))?;
        let mut journal = Journal::open(folder)?;
        if !journal.is_empty() {
            console::note(format_args!("going on after {} answers of the judge", HumanCount(journal.len() as u64)));
        }
        let judging =
            Judging { mode: self.judge_mode, max_tokens: self.judge_max_tokens.max(1), budget: self.server.budget() };
        let interrupt = Interrupt::listen_for_run()?;
        interrupt.begin_run("stopping; what is under way is still kept (Ctrl-C again ends at once)");
        let (total, mut done) = (judging.questions(results), 0);
        let ended = {
            let mut counter = Counter::new("judging", "questions", total);
            judging.judge(results, &mut journal, judge, &|| interrupt.requested().is_some(), &mut |count| {
                done = count;
                counter.update(count);
            })?
        };
        let spent = judging.budget.cost(journal.usage());
        if ended == Some(Ended::Cost) {
            return Err(Error::Request(format!(
                "stopped at --max-cost: the judge has answered {done} of {total} questions for {spent:.4}; the same command with \
                 a higher one goes on, and asks none of them again"
            )));
        }
        match interrupt.requested().filter(|_| ended.is_some()) {
            Some(signal) => {
                console::note(format_args!(
                    "stopped: the judge has answered {done} of {total} questions; the same command goes on"
                ));
                Ok(Judged::Stopped(signal))
            }
            None => {
                interrupt.end_answer();
                if judging.budget.prices != [0.0; 2] {
                    console::note(format_args!("the judge has cost {spent:.4}"));
                }
                Ok(Judged::All(journal.path().to_path_buf()))
            }
        }
    }
}
