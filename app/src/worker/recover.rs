//! Recovers a chat model from its base and a weight diff into the storage, streaming a few rows at a time.

use paddock_engine::model::LoadProgress;
use paddock_engine::prompt::TemplateKind;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_engine::weights::diff::Recovery;
use paddock_engine::weights::pack::{PackOptions, PackPlan, Quantize, pack};
use paddock_engine::{Error, Result};

use super::job::Job;
use super::reporter::Reporter;
use super::scope::post;
use super::source::PackSource;
use super::storage::{self, StoredSink};
use crate::models::Kind;
use crate::protocol::{Event, PackLocation, Report, Task};

/// Serves a job of the storage lane and returns its last report, after telling the page what the storage holds now.
pub async fn serve(task: Task, job: &Job) -> Report {
    let last = match task {
        Task::Recover { name, base, diff, quantize } => {
            recover(&name, base, diff, &quantize, job).await.map(|()| Report::Recovered)
        }
        Task::Forget { name } => storage::remove(&name).await.map(|()| Report::Forgotten),
        _ => Err(Error::Request("the job belongs to another lane".to_string())),
    };
    // After a failure too, since it may have removed an older model of the same name.
    post(&Event::Stored(storage::list().await));
    last.unwrap_or_else(|error| job.failed(&error))
}

/// Recovers the model `name`. A failure leaves nothing in the storage.
///
/// # Errors
/// When a pack is damaged, the two do not belong together, a tensor fails its SHA-256, or the storage refuses.
async fn recover(name: &str, base: PackLocation, diff: PackLocation, quantize: &str, job: &Job) -> Result<()> {
    let quantize: Quantize = quantize.parse()?;
    if [&base, &diff].into_iter().any(|location| *location == PackLocation::Stored(name.to_string())) {
        return Err(Error::Request(format!("{name} is the base itself; give the recovered model another name")));
    }
    let base = Checkpoint::open(PackSource::open(base, job).await?).await?;
    let mut diff = Checkpoint::open(PackSource::open(diff, job).await?).await?;
    if diff.weight_diff().is_none() {
        return Err(Error::Request("the diff's pack is a model and no weight diff; choose the diff".to_string()));
    }
    let tokenizer = Tokenizer::from_files(&diff.tokenizer_files().await?)?;
    let mut recovery = Recovery::new(base, diff)?;
    let plan = PackPlan::new(&recovery, quantize)?;
    let total = plan.bytes();
    let mut reporter = Reporter::new(Kind::Chat, job);
    let mut report = |bytes| reporter.report(LoadProgress { bytes, total });
    let options = PackOptions { name: name.to_string(), template: TemplateKind::Auto };
    let mut sink = StoredSink::create(name).await?;
    let packed = pack(&mut recovery, Some(&tokenizer), &options, &plan, &mut sink, &mut report).await;
    drop(sink);
    if packed.is_err() {
        storage::remove(name).await?;
    }
    packed.map(|_| ())
}
