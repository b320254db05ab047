//! What the ranks of a run agree on.

use std::path::Path;

use paddock_learn::Adjoint;
use paddock_learn::collective::Sharding;

use super::start::Start;
use crate::run::checkpoint;
use crate::signals::Signal;
use crate::{Error, Result};

/// The first rank looks at the run's folder, and the others begin where it does.
pub(super) async fn agree_on_start<B: Adjoint>(
    sharding: Option<&Sharding<B>>,
    output: &Path,
    resume: bool,
) -> Result<Start> {
    let Some(Sharding { ranks, .. }) = sharding else { return Start::find(output, resume) };
    let mut told = [0.0];
    let start = if ranks.rank() == 0 {
        let start = Start::find(output, resume)?;
        told[0] = start.step() as f64;
        ranks.sum(&mut told).await?;
        start
    } else {
        ranks.sum(&mut told).await?;
        Start { resumed: checkpoint::of_step(output, told[0] as u64)?, ..Start::default() }
    };
    same_start(sharding, start.step(), output).await?;
    Ok(start)
}

/// Runs `action` on the first rank and then on the others, which find its results.
pub(super) async fn first_rank_first<B: Adjoint, R>(
    sharding: Option<&Sharding<B>>,
    action: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let Some(Sharding { ranks, .. }) = sharding else { return action() };
    let leads = ranks.rank() == 0;
    if !leads {
        ranks.sum(&mut []).await?;
    }
    let result = action()?;
    if leads {
        ranks.sum(&mut []).await?;
    }
    Ok(result)
}

/// Refuses ranks that would begin at different steps, because they do not see the same checkpoints.
async fn same_start<B: Adjoint>(sharding: Option<&Sharding<B>>, step: u64, output: &Path) -> Result<()> {
    let Some(Sharding { ranks, .. }) = sharding else { return Ok(()) };
    let mut steps = vec![0.0; ranks.world_size()];
    steps[ranks.rank()] = step as f64;
    ranks.sum(&mut steps).await?;
    let Some(rank) = steps.iter().position(|other| *other != steps[0]) else { return Ok(()) };
    Err(Error::Request(format!(
        "rank {rank} would begin after step {} and rank 0 after step {}: they see other checkpoints in {}; give all ranks \
         one folder",
        steps[rank],
        steps[0],
        output.display()
    )))
}

/// The signal that came to any rank; Ctrl-C goes before others.
pub(super) async fn agree_on_signal<B: Adjoint>(
    sharding: Option<&Sharding<B>>,
    own: Option<Signal>,
) -> Result<Option<Signal>> {
    let mut votes = Signal::ALL.map(|signal| f64::from(u8::from(own == Some(signal))));
    if let Some(sharding) = sharding {
        sharding.ranks.sum(&mut votes).await?;
    }
    Ok(Signal::ALL.into_iter().zip(votes).find(|(_, votes)| *votes > 0.0).map(|(signal, _)| signal))
}
