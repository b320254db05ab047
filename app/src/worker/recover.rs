//! A base and a weight diff to a chat model in the storage, streamed: no more than some rows are in memory.

use std::rc::Rc;

use js_sys::Array;
use paddock_engine::model::LoadProgress;
use paddock_engine::prompt::TemplateKind;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_engine::weights::diff::Recovery;
use paddock_engine::weights::pack::{PackOptions, PackPlan, Quantize, pack};
use paddock_engine::{Error, Result};

use super::report::Reporter;
use super::scope::Stop;
use super::source::PackSource;
use super::storage::{self, StoredSink};
use crate::models::Kind;
use crate::protocol::Place;

/// Recovers the model `name`. A failure leaves nothing in the storage.
///
/// # Errors
/// When a pack is damaged, they do not belong together, a tensor is not the tuned model's, or the storage refuses.
pub async fn recover(
    name: &str,
    base: Place,
    diff: Place,
    quantize: &str,
    folders: &Array,
    stop: &Rc<Stop>,
) -> Result<()> {
    let quantize: Quantize = quantize.parse()?;
    if [&base, &diff].into_iter().any(|place| *place == Place::Stored(name.to_string())) {
        return Err(Error::Request(format!("{name} is the base itself; give the recovered model another name")));
    }
    let base = Checkpoint::open(PackSource::open(base, folders, stop).await?).await?;
    let mut diff = Checkpoint::open(PackSource::open(diff, folders, stop).await?).await?;
    if diff.weight_diff().is_none() {
        return Err(Error::Request("the diff's pack is a model and no weight diff; choose the diff".to_string()));
    }
    let tokenizer = Tokenizer::from_files(&diff.tokenizer_files().await?)?;
    let mut recovery = Recovery::new(base, diff)?;
    let plan = PackPlan::new(&recovery, quantize)?;
    let total = plan.bytes();
    let mut reporter = Reporter::new(Kind::Chat);
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
