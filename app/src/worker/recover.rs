//! Recovers a chat model from its base and a weight diff into the storage, streaming a few rows at a time.

use paddock_engine::model::LoadProgress;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_engine::weights::diff::Recovery;
use paddock_engine::weights::pack::{PackOptions, PackPlan, Quantize, pack};
use paddock_engine::{Error, Result};

use super::file_handle::full;
use super::job::Job;
use super::reporter::Reporter;
use super::source::PackSource;
use super::storage::{self, StoredSink};
use crate::models::Kind;
use crate::protocol::{PackLocation, Report, Task};

/// Serves a job of the storage lane and returns its last report, after telling the page what the storage holds now.
pub async fn serve(task: Task, job: &Job) -> Report {
    let last = match task {
        Task::Recover { name, base, diff, quantize } => {
            recover(&name, base, diff, &quantize, job).await.map(|()| Report::Recovered)
        }
        Task::Import { name, path, location } => import(&name, path, location, job).await.map(Report::Imported),
        Task::Forget { path } => storage::remove(&path).await.map(|()| Report::Forgotten),
        _ => Err(Error::Request("the job belongs to another lane".to_string())),
    };
    // After a failure too, since it may have removed an older model of the same name.
    storage::announce().await;
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
    let open = async |location| PackSource::open_once(location, job.folders(), job.stop()).await;
    let base = Checkpoint::open(open(&base).await?).await?;
    let mut diff = Checkpoint::open(open(&diff).await?).await?;
    if diff.weight_diff().is_none() {
        return Err(Error::Request("the diff's pack is a model and no weight diff; choose the diff".to_string()));
    }
    let tokenizer = Tokenizer::from_files(&diff.tokenizer_files().await?)?;
    let mut recovery = Recovery::new(base, diff)?;
    let plan = PackPlan::new(&recovery, quantize)?;
    let total = plan.bytes();
    let mut reporter = Reporter::new(Kind::Chat, job);
    let mut report = |bytes| reporter.report(LoadProgress { bytes, total });
    let options = PackOptions { name: name.to_string(), ..PackOptions::default() };
    let mut sink = StoredSink::create(name).await?;
    let packed = pack(&mut recovery, Some(&tokenizer), &options, &plan, &mut sink, &mut report).await;
    drop(sink);
    if packed.is_err() {
        storage::remove(name).await?;
    }
    packed.map(|_| ())
}

/// Brings a model into the storage and returns its folder there: a pack of a site as it is, anything else packed, a few
/// rows at a time. A failure leaves nothing, but what a download can go on with.
///
/// # Errors
/// When the model is damaged, the site cannot be reached, or the storage refuses.
async fn import(name: &str, path: String, location: PackLocation, job: &Job) -> Result<String> {
    let mut reporter = Reporter::new(Kind::Chat, job);
    let source = PackSource::open(&location, job.folders(), job.stop()).await?;
    if let Some(stored) = source.stored_name() {
        return Ok(stored);
    }
    if let Some(keeping) = source.keeping() {
        let total = keeping.bytes();
        let kept = keeping.finish(&mut |bytes| reporter.report(LoadProgress { bytes, total })).await?;
        return if kept { Ok(keeping.name().to_string()) } else { Err(full(keeping.name())) };
    }
    let mut checkpoint = Checkpoint::open(source).await?;
    let tokenizer = match checkpoint.config().is_head_alone() {
        true => None,
        false => Some(Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?),
    };
    let plan = PackPlan::new(&checkpoint, Quantize::Keep)?;
    let total = plan.bytes();
    let origin = match location {
        PackLocation::Address(address) => Some(address),
        _ => None,
    };
    let options = PackOptions { name: name.to_string(), source: origin, ..PackOptions::default() };
    let mut report = |bytes| reporter.report(LoadProgress { bytes, total });
    let mut sink = StoredSink::create(&path).await?;
    let packed = pack(&mut checkpoint, tokenizer.as_ref(), &options, &plan, &mut sink, &mut report).await;
    drop(sink);
    if packed.is_err() {
        storage::remove(&path).await?;
    }
    packed.map(|_| path)
}
