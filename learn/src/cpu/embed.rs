//! Rows of a trainable table.

use paddock_engine::backend::cpu::{Tensor, Tokens};
use paddock_engine::{Error, Result};

use super::{Dense, expect};

pub(super) fn embed(table: &Dense, ids: &Tokens) -> Result<Tensor> {
    let [rows, cols] = table.shape;
    let mut out = Vec::with_capacity(ids.ids().len() * cols);
    for &id in ids.ids() {
        if !table.copy_row(id as usize, &mut out) {
            return Err(Error::Request(format!("token {id} is not in the vocabulary of {rows} tokens")));
        }
    }
    Tensor::from_values([ids.ids().len(), cols], out)
}

pub(super) fn embed_adjoint(ids: &Tokens, grad: &Tensor, table: &mut Dense) -> Result<()> {
    let cols = table.shape[1];
    expect("embed_adjoint", "a gradient", grad.shape(), [ids.ids().len(), cols])?;
    for (&id, grad) in ids.ids().iter().zip(grad.values().chunks_exact(cols.max(1))) {
        if let Some(row) = table.values.get_mut(id as usize * cols..(id as usize + 1) * cols) {
            row.iter_mut().zip(grad).for_each(|(sum, grad)| *sum += grad);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Cpu, Device};

    use super::*;
    use crate::cpu::testing::{Check, dense, numbers, tensor};

    #[test]
    fn agrees_with_differences() {
        let (rows, cols, ids) = (6, 5, [3u32, 0, 3, 5]);
        let inputs = [numbers(rows * cols, 1)];
        let check =
            Check::new(&inputs, |v| ids.iter().flat_map(|&id| v[0][id as usize * cols..][..cols].to_vec()).collect());
        let tokens = Cpu::with_threads(1).tokens(&ids).unwrap();
        check.value(embed(&dense([rows, cols], &inputs[0]), &tokens).unwrap().values());
        let mut grad = dense([rows, cols], &vec![0.0; rows * cols]);
        embed_adjoint(&tokens, &tensor([4, cols], &check.seed), &mut grad).unwrap();
        check.gradient(0, &grad.values);
    }

    #[test]
    fn ids_beyond_the_table_are_refused() {
        let tokens = Cpu::with_threads(1).tokens(&[2]).unwrap();
        assert!(embed(&dense([2, 3], &[0.0; 6]), &tokens).is_err());
    }
}
