//! Dropout (Srivastava et al. 2014) of what adapters read, as PEFT's `lora_dropout`.

use paddock_engine::backend::pcg_hash;

/// Which values are dropped: a hash of the seed, the row's key and the column decides, so it depends neither on how a batch is
/// cut nor on the number of ranks, and a pass that is computed anew drops the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The share of values that are dropped, from 0 to below 1.
    pub rate: f32,
    /// Differs between steps and between adapters.
    pub seed: u32,
}

impl Dropout {
    /// Whether the value at `column` of the row with this key stays.
    pub fn keeps(self, key: u32, column: u32) -> bool {
        pcg_hash(column ^ pcg_hash(key ^ self.seed)) >= self.threshold()
    }

    /// Hashes below this one drop their value.
    pub fn threshold(self) -> u32 {
        (f64::from(self.rate) * 2f64.powi(32)) as u32
    }

    /// What the values that stay are multiplied by, so that the mean stays, too.
    pub fn scale(self) -> f32 {
        1.0 / (1.0 - self.rate)
    }
}

/// The key of a row: the place of its example in the step's batch, and its position in the example.
pub fn row_key(example: u32, position: u32) -> u32 {
    pcg_hash(position ^ pcg_hash(example))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_dropped_as_the_rate_says_and_each_seed_drops_others() {
        let dropped = |dropout: Dropout| -> Vec<bool> {
            let rows = (0..40).flat_map(|row| (0..100).map(move |column| (row_key(row / 8, row % 8), column)));
            rows.map(|(key, column)| !dropout.keeps(key, column)).collect()
        };
        for rate in [0.05, 0.3, 0.9] {
            let [one, two] = [1, 2].map(|seed| dropped(Dropout { rate, seed }));
            let count = one.iter().filter(|dropped| **dropped).count() as f32;
            // Four standard deviations of 4,000 draws.
            assert!((count - 4000.0 * rate).abs() < 4.0 * (4000.0 * rate * (1.0 - rate)).sqrt(), "{rate}: {count}");
            assert!(one != two);
        }
        assert!(dropped(Dropout { rate: 0.0, seed: 1 }).iter().all(|dropped| !dropped));
    }

    #[test]
    fn rows_whose_keys_share_bits_with_the_seed_drop_others() {
        let row = |key| (0..64).map(|column| Dropout { rate: 0.5, seed: 1 }.keeps(key, column)).collect::<Vec<_>>();
        assert!(row(4) != row(5) && row(4) != row(6) && row(5) != row(6));
    }
}
