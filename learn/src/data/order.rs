//! Which examples make up which step.

/// The order of a run. It holds no state: the examples of a step follow from its number, so a resumed run goes on where
/// it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Number of examples.
    pub examples: usize,
    /// Examples of a step; the last step of an epoch may have fewer.
    pub batch_size: usize,
    /// Seed of the shuffle; `None` keeps the file's order.
    pub seed: Option<u64>,
}

impl Order {
    /// Steps of one pass over the data.
    pub fn steps_per_epoch(&self) -> u64 {
        self.examples.div_ceil(self.batch_size.max(1)) as u64
    }

    /// The examples of step `step`, from 0 on.
    pub fn batch(&self, step: u64) -> Vec<usize> {
        let steps = self.steps_per_epoch().max(1);
        let order = self.epoch(step / steps);
        let start = (step % steps) as usize * self.batch_size;
        order[start.min(order.len())..(start + self.batch_size).min(order.len())].to_vec()
    }

    /// All examples in the order of an epoch.
    fn epoch(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.examples).collect();
        if let Some(seed) = self.seed {
            shuffle(&mut order, &mut (seed ^ epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
        order
    }
}

/// Puts `items` in an order that depends on `state` alone (Fisher and Yates).
fn shuffle<T>(items: &mut [T], state: &mut u64) {
    for last in (1..items.len()).rev() {
        items.swap(last, (random(state) % (last as u64 + 1)) as usize);
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_every_example_once() {
        let order = Order { examples: 10, batch_size: 4, seed: Some(7) };
        assert_eq!(order.steps_per_epoch(), 3);
        let epoch = |epoch: u64| -> Vec<usize> { (0..3).flat_map(|step| order.batch(3 * epoch + step)).collect() };
        let mut sorted = epoch(0);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        assert_ne!(epoch(0), epoch(1));
        assert_ne!(epoch(0), sorted);
        assert_eq!(order.batch(2).len(), 2);
    }

    #[test]
    fn without_a_shuffle_the_files_order_wraps() {
        let order = Order { examples: 6, batch_size: 4, seed: None };
        let steps: Vec<_> = (0..3).map(|step| order.batch(step)).collect();
        assert_eq!(steps, [vec![0, 1, 2, 3], vec![4, 5], vec![0, 1, 2, 3]]);
    }

    /// The generator's published first values for seed 1234567.
    #[test]
    fn the_generator_is_splitmix() {
        let mut state = 1_234_567;
        assert_eq!([random(&mut state), random(&mut state)], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn seeds_and_epochs_have_orders_of_their_own() {
        let order = |seed, epoch| Order { examples: 20, batch_size: 20, seed: Some(seed) }.batch(epoch);
        assert_ne!(order(1, 0), order(2, 0));
        // A seed whose bits the epoch's have already.
        assert_ne!(order(0, 1), order(1, 1));
    }

    #[test]
    fn an_item_may_stay_where_it_is() {
        let order = |seed| Order { examples: 2, batch_size: 2, seed: Some(seed) }.batch(0);
        let swapped = (0..20).filter(|seed| order(*seed) == [1, 0]).count();
        assert!((1..20).contains(&swapped), "{swapped}");
    }
}
