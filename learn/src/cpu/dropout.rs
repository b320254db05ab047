//! Dropout, which is its own adjoint.

use paddock_engine::Result;
use paddock_engine::backend::cpu::{Tensor, Tokens};

use super::expect;
use crate::dropout::Dropout;

pub(super) fn dropout(x: &Tensor, keys: &Tokens, dropout: Dropout) -> Result<Tensor> {
    let [rows, cols] = x.shape();
    expect("dropout", "the keys of the rows", [keys.ids().len(), 1], [rows, 1])?;
    let scale = dropout.scale();
    let mut values = x.values().to_vec();
    for (row, key) in values.chunks_exact_mut(cols.max(1)).zip(keys.ids()) {
        for (column, value) in row.iter_mut().enumerate() {
            *value = if dropout.keeps(*key, column as u32) { *value * scale } else { 0.0 };
        }
    }
    Tensor::from_values([rows, cols], values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor};
    use paddock_engine::backend::{Cpu, Device};

    #[test]
    fn it_is_its_own_adjoint() {
        let (inputs, keys) = ([numbers(21, 3)], [7, 1, 7]);
        let rule = Dropout { rate: 0.4, seed: 5 };
        let kept = |i: usize| rule.keeps(keys[i / 7], (i % 7) as u32);
        let check = Check::new(&inputs, |v| {
            v[0].iter().enumerate().map(|(i, v)| if kept(i) { v / (1.0 - f64::from(rule.rate)) } else { 0.0 }).collect()
        });
        let tokens = Cpu::with_threads(1).tokens(&keys).unwrap();
        check.gradient(0, dropout(&tensor([3, 7], &check.seed), &tokens, rule).unwrap().values());
        // Rows of one key drop the same columns.
        let ones = dropout(&Tensor::from_values([3, 7], vec![1.0; 21]).unwrap(), &tokens, rule).unwrap();
        assert_eq!(ones.values()[..7], ones.values()[14..]);
        assert!(ones.values()[..7] != ones.values()[7..14] && ones.values().contains(&0.0));
        assert!(dropout(&tensor([3, 7], &check.seed), &Cpu::with_threads(1).tokens(&[1]).unwrap(), rule).is_err());
    }
}
