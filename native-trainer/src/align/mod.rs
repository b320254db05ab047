//! Reward models, from human preferences.

mod evaluate;
mod head_folder;
mod histogram;
mod normalizer;
mod pairs;
mod preference;
mod reference_file;
mod report;
mod reward_bench;
pub mod reward_head;
mod score_model;
mod show;

pub use evaluate::{EvaluationSettings, ScoreEvaluation, evaluate};
pub use histogram::{Counts, Distribution};
pub use normalizer::NormalizerKind;
pub use pairs::{Encoding, PairKind, Pairs};
pub use preference::PreferenceRun;
pub use report::{Calibration, CalibrationBin, LengthBias, ScoreReport, ScoredPair};
pub use reward_bench::{BenchReport, BenchRow, SubsetScore};
pub use score_model::ScoreRun;
