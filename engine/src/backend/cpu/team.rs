//! Threads that wait for work without sleeping.
//!
//! A token passes some 150 operations of a few tens of microseconds. Waking a sleeping thread costs a good part of
//! that, so the threads of a team spin for a moment before they sleep. The calling thread is one of the team.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

/// How often a thread looks for work before it sleeps: some 100 µs, longer than the host needs between two tokens.
const SPINS: usize = 3000;
/// How often the caller looks whether the others are done before it lets other programs run.
const PATIENCE: usize = 10_000;

type Work = Arc<dyn Fn() + Send + Sync>;

/// The caller and its helpers.
#[derive(Debug)]
pub(super) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    slot: Mutex<Slot>,
    wake: Condvar,
    /// Counts the pieces of work that were posted.
    posted: AtomicUsize,
    /// Helpers that hold the current work.
    busy: AtomicUsize,
    stop: AtomicBool,
}

#[derive(Default)]
struct Slot {
    work: Option<Work>,
    sleeping: usize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("posted", &self.posted).field("busy", &self.busy).finish_non_exhaustive()
    }
}

impl Team {
    /// A team of `threads`, the caller included; fewer when the system gives no more (none in a browser).
    pub(super) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let helpers = (1..threads)
            .map_while(|index| {
                let shared = shared.clone();
                std::thread::Builder::new().name(format!("paddock-cpu-{index}")).spawn(move || shared.help()).ok()
            })
            .collect();
        Self { shared, helpers }
    }

    /// Threads, the caller included.
    pub(super) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// `job(0), …, job(count - 1)`, in any order on any thread. A second caller at the same time works alone.
    pub(super) fn map<R, J>(&self, count: usize, job: J) -> Vec<R>
    where
        R: Send + Sync + 'static,
        J: Fn(usize) -> R + Send + Sync + 'static,
    {
        if count <= 1 || self.helpers.is_empty() {
            return (0..count).map(job).collect();
        }
        let task =
            Arc::new(Task { job, next: AtomicUsize::new(0), results: (0..count).map(|_| OnceLock::new()).collect() });
        let work = {
            let task = task.clone();
            Arc::new(move || task.run())
        };
        if self.shared.post(work) {
            task.run();
            self.shared.finish();
        } else {
            task.run();
        }
        // Every helper has let go of the task by now; what is missing was lost to a panic, which goes on here.
        let results = Arc::into_inner(task).map(|task| task.results).unwrap_or_default();
        let results: Vec<R> = results.into_iter().filter_map(OnceLock::into_inner).collect();
        assert_eq!(results.len(), count, "a thread of the CPU backend panicked");
        results
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.posted.fetch_add(1, Ordering::Release);
        drop(self.shared.lock());
        self.shared.wake.notify_all();
        for helper in self.helpers.drain(..) {
            let _ = helper.join();
        }
    }
}

/// Jobs that idle threads take one by one.
struct Task<R, J> {
    job: J,
    next: AtomicUsize,
    results: Vec<OnceLock<R>>,
}

impl<R, J: Fn(usize) -> R> Task<R, J> {
    fn run(&self) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(result) = self.results.get(index) else { return };
            let _ = result.set((self.job)(index));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers `work` to the helpers; false when they have other work.
    fn post(&self, work: Work) -> bool {
        let mut slot = self.lock();
        if slot.work.is_some() {
            return false;
        }
        slot.work = Some(work);
        self.posted.fetch_add(1, Ordering::Release);
        if slot.sleeping > 0 {
            self.wake.notify_all();
        }
        true
    }

    /// Takes the work back and waits until no helper holds it.
    fn finish(&self) {
        self.lock().work = None;
        let mut looks = 0;
        while self.busy.load(Ordering::Acquire) > 0 {
            looks += 1;
            if looks < PATIENCE { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// A helper's life.
    fn help(&self) {
        let mut seen = 0;
        loop {
            self.wait(seen);
            let work = {
                let slot = self.lock();
                seen = self.posted.load(Ordering::Acquire);
                // Last, because the stop counts as posted: a thread that has seen it must not wait for more.
                if self.stop.load(Ordering::Acquire) {
                    return;
                }
                if slot.work.is_some() {
                    self.busy.fetch_add(1, Ordering::Relaxed);
                }
                slot.work.clone()
            };
            if let Some(work) = work {
                // A panic is reported by the caller, who finds the result missing.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work()));
                drop(work);
                self.busy.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// Until more than `seen` pieces of work were posted.
    fn wait(&self, seen: usize) {
        for _ in 0..SPINS {
            if self.posted.load(Ordering::Acquire) != seen {
                return;
            }
            std::hint::spin_loop();
        }
        let mut slot = self.lock();
        slot.sleeping += 1;
        while self.posted.load(Ordering::Acquire) == seen {
            slot = self.wake.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        slot.sleeping -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_however_many_threads_there_are() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads);
            for count in [0, 1, 2, 100] {
                assert_eq!(team.map(count, |i| i * i), (0..count).map(|i| i * i).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn nothing_holds_what_a_job_captured_afterwards() {
        let team = Team::new(3);
        let mut values = Arc::new(vec![0; 64]);
        for round in 0..500 {
            let captured = values.clone();
            let sums = team.map(8, move |i| captured[i * 8..][..8].iter().sum::<i32>());
            assert_eq!(sums, [round * 8; 8]);
            for value in Arc::get_mut(&mut values).expect("a helper still holds the values") {
                *value += 1;
            }
        }
    }

    #[test]
    fn a_helper_wakes_up_after_a_pause() {
        let team = Team::new(2);
        team.map(2, |_| ());
        std::thread::sleep(std::time::Duration::from_millis(20));
        let names = team.map(2, |_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            std::thread::current().name().map(str::to_owned)
        });
        assert!(names.contains(&Some("paddock-cpu-1".to_owned())), "{names:?}");
    }

    #[test]
    fn a_team_can_leave_right_after_its_work() {
        for _ in 0..3000 {
            Team::new(3).map(4, |i| i);
        }
    }

    #[test]
    fn no_helper_outlives_its_team() {
        let team = Team::new(3);
        let shared = Arc::downgrade(&team.shared);
        drop(team);
        assert!(shared.upgrade().is_none());
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let team = Team::new(2);
        let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| team.map(50, |i| assert_ne!(i, 7))));
        assert!(lost.is_err());
        assert_eq!(team.map(3, |i| i), [0, 1, 2]);
    }
}
