//! Rows of the embedding table.

use super::{Cpu, Tensor, Tokens, Weight};
use crate::{Error, Result};

pub(super) fn embed(cpu: &Cpu, table: &Weight, ids: &Tokens) -> Result<Tensor> {
    let [rows, cols] = table.0.shape;
    let mut out = vec![0.0; ids.0.len() * cols];
    for (&id, out) in ids.0.iter().zip(out.chunks_exact_mut(cols)) {
        if id as usize >= rows {
            return Err(Error::Request(format!("token {id} is not in the vocabulary of {rows} tokens")));
        }
        table.0.unpack_row(cpu, id as usize, out);
    }
    Ok(Tensor::new([ids.0.len(), cols], out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Device;
    use crate::backend::cpu::testing::weight;

    #[test]
    fn rows_come_in_the_order_of_the_ids() {
        let cpu = Cpu::with_threads(1);
        let table = weight(&cpu, [3, 2], &[0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
        let x = embed(&cpu, &table, &cpu.tokens(&[2, 0, 2]).unwrap()).unwrap();
        assert_eq!((x.shape, &**x.values), ([3, 2], &[20.0, 21.0, 0.0, 1.0, 20.0, 21.0][..]));
        assert!(embed(&cpu, &table, &cpu.tokens(&[3]).unwrap()).is_err());
    }
}
