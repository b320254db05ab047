//! Some rows of a matrix.

use super::Tensor;
use crate::{Error, Result};

pub(super) fn select_rows(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let [len, cols] = x.shape;
    let mut out = Vec::with_capacity(rows.len() * cols);
    for &row in rows {
        if row >= len {
            return Err(Error::Shape {
                op: "select_rows",
                expected: format!("rows below {len}"),
                got: format!("row {row}"),
            });
        }
        out.extend_from_slice(&x.values[row * cols..][..cols]);
    }
    Ok(Tensor::new([rows.len(), cols], out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_the_order_asked_for() {
        let x = Tensor::new([3, 1], vec![1.0, 2.0, 3.0]);
        let y = select_rows(&x, &[2, 0, 2]).unwrap();
        assert_eq!((y.shape, &**y.values), ([3, 1], &[3.0, 1.0, 3.0][..]));
        assert!(select_rows(&x, &[3]).is_err());
    }
}
