//! Rows of a table.

use paddock_engine::Result;
use paddock_engine::backend::cpu::{Tensor, Tokens};

use super::{Gradient, expect};

pub(super) fn embed_adjoint(ids: &Tokens, grad: &Tensor, table: &mut Gradient) -> Result<()> {
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
    use paddock_engine::backend::{Cpu, Device, Operations};

    use super::*;
    use crate::cpu::testing::{Check, numbers, tensor, weight, zeros};

    #[test]
    fn agrees_with_differences() {
        let (rows, cols, ids) = (6, 5, [3u32, 0, 3, 5]);
        let inputs = [numbers(rows * cols, 1)];
        let check =
            Check::new(&inputs, |v| ids.iter().flat_map(|&id| v[0][id as usize * cols..][..cols].to_vec()).collect());
        let cpu = Cpu::with_threads(1);
        let tokens = cpu.tokens(&ids).unwrap();
        check.value(cpu.embed(&weight([rows, cols], &inputs[0]), &tokens).unwrap().values());
        let mut grad = zeros([rows, cols]);
        embed_adjoint(&tokens, &tensor([4, cols], &check.seed), &mut grad).unwrap();
        check.gradient(0, &grad.values);
    }
}
