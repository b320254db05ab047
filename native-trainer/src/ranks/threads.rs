//! Ranks that are threads of one process, for tests.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use paddock_engine::{Error, Result};

use super::HostRanks;

/// One of the ranks. When it is dropped, calls of the others fail.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    world_size: usize,
    meeting: Arc<Meeting>,
}

#[derive(Debug)]
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What each rank has contributed to the current call.
    brought: Vec<Option<Arc<Vec<u8>>>>,
    /// Number of ranks that have taken the contributions.
    taken: usize,
    /// A rank that has ended.
    gone: Option<usize>,
}

/// The handles of `world_size` ranks, one for each thread.
pub fn threads(world_size: usize) -> Vec<Threads> {
    let state = State { brought: vec![None; world_size], taken: 0, gone: None };
    let meeting = Arc::new(Meeting { state: Mutex::new(state), changed: Condvar::new() });
    (0..world_size).map(|rank| Threads { rank, world_size, meeting: meeting.clone() }).collect()
}

impl Threads {
    /// Exchanges the bytes of all ranks, in their order.
    fn bring(&self, mine: Vec<u8>) -> Result<Vec<Arc<Vec<u8>>>> {
        let mut state = self.meeting.lock();
        // The previous call is over when all ranks have taken its contributions.
        state = self.meeting.wait(state, |state| state.brought[self.rank].is_some())?;
        state.brought[self.rank] = Some(Arc::new(mine));
        self.meeting.changed.notify_all();
        state = self.meeting.wait(state, |state| state.brought.iter().any(Option::is_none))?;
        let all = state.brought.iter().flatten().cloned().collect();
        state.taken += 1;
        if state.taken == self.world_size {
            state.taken = 0;
            state.brought.fill(None);
            self.meeting.changed.notify_all();
        }
        Ok(all)
    }
}

impl Meeting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `holds` returns true.
    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        holds: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'a, State>> {
        while holds(&state) {
            if let Some(rank) = state.gone {
                return Err(Error::Device { device: format!("rank {rank}"), problem: "it has ended".to_string() });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(state)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.meeting.lock().gone.get_or_insert(self.rank);
        self.meeting.changed.notify_all();
    }
}

impl HostRanks for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn exchange(&self, mine: &[u8]) -> Result<Vec<u8>> {
        let all = self.bring(mine.to_vec())?;
        Ok(all.iter().flat_map(|bytes| bytes.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_calls_keep_their_order() {
        let ranks: Vec<_> = threads(4)
            .into_iter()
            .map(|rank| {
                std::thread::spawn(move || {
                    for call in 0..200 {
                        let all = rank.gather_values(&[call as f32 * 10.0 + rank.rank as f32]).unwrap();
                        assert_eq!(all, [0.0, 1.0, 2.0, 3.0].map(|rank| call as f32 * 10.0 + rank));
                        let mut sums = [call as f64, rank.rank as f64];
                        rank.sum_values(&mut sums).unwrap();
                        assert_eq!(sums, [4.0 * call as f64, 6.0]);
                    }
                    // Kept until all are done: if it were dropped now, the last call of the others would fail.
                    rank
                })
            })
            .collect();
        let held: Vec<_> = ranks.into_iter().map(|rank| rank.join().unwrap()).collect();
        assert_eq!(held.len(), 4);
    }

    #[test]
    fn a_rank_that_ends_is_named() {
        let mut ranks = threads(2);
        drop(ranks.remove(1));
        let error = ranks[0].gather_values(&[1.0]).unwrap_err().to_string();
        assert!(error.contains("rank 1") && error.contains("ended"), "{error}");
    }
}
