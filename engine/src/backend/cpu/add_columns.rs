//! A scaled matrix added to some rows and columns of another: where a low-rank adapter joins a fused product.

use super::Tensor;
use crate::Result;
use crate::backend::check;

pub(super) fn add_columns(x: Tensor, delta: &Tensor, at: [usize; 2], scale: f32) -> Result<Tensor> {
    check::block("add_columns", at, delta.shape, x.shape)?;
    let ([_, cols], [_, count], [first_row, first]) = (x.shape, delta.shape, at);
    let shape = x.shape;
    let mut values = x.into_values();
    let rows = values.chunks_exact_mut(cols.max(1)).skip(first_row);
    for (row, delta) in rows.zip(delta.values.chunks_exact(count.max(1))) {
        row[first..first + count].iter_mut().zip(delta).for_each(|(value, delta)| *value += scale * delta);
    }
    Ok(Tensor::new(shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_to_its_rows_and_columns_and_no_other() {
        let x = Tensor::new([2, 4], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let delta = Tensor::new([2, 2], vec![10.0, 20.0, 30.0, 40.0]);
        let sum = add_columns(x.clone(), &delta, [0, 1], 0.5).unwrap();
        assert_eq!(*sum.values, [1.0, 7.0, 13.0, 4.0, 5.0, 21.0, 27.0, 8.0]);
        let to_the_last = add_columns(x.clone(), &delta, [0, 2], -1.0).unwrap();
        assert_eq!(*to_the_last.values, [1.0, 2.0, -7.0, -16.0, 5.0, 6.0, -23.0, -32.0]);
        let one = Tensor::new([1, 2], vec![10.0, 20.0]);
        let last_row = add_columns(x.clone(), &one, [1, 0], 1.0).unwrap();
        assert_eq!(*last_row.values, [1.0, 2.0, 3.0, 4.0, 15.0, 26.0, 7.0, 8.0]);
    }

    #[test]
    fn what_another_holds_stays_as_it_is() {
        let x = Tensor::new([1, 2], vec![1.0, 2.0]);
        let (held, place) = (x.clone(), x.values.as_ptr());
        let delta = Tensor::new([1, 1], vec![1.0]);
        add_columns(x, &delta, [0, 0], 1.0).unwrap();
        assert_eq!(*held.values, [1.0, 2.0]);
        let sum = add_columns(held, &delta, [0, 0], 1.0).unwrap();
        assert_eq!((&**sum.values, sum.values.as_ptr()), (&[2.0, 2.0][..], place), "in place");
    }

    #[test]
    fn what_lies_beyond_the_last_is_refused() {
        let (x, delta) = (Tensor::new([2, 3], vec![0.0; 6]), Tensor::new([2, 2], vec![0.0; 4]));
        assert!(add_columns(x.clone(), &delta, [0, 2], 1.0).is_err());
        assert!(add_columns(x.clone(), &delta, [usize::MAX, 0], 1.0).is_err());
        assert!(add_columns(x.clone(), &delta, [1, 0], 1.0).is_err());
    }
}
