//! AdamW, fused: gradient, moments and parameter are read and written once.

use paddock_engine::Result;
use rayon::prelude::*;

use super::{Dense, PIECE, expect, vectorised};
use crate::optim::AdamWStep;

pub(super) fn adamw(param: &mut Dense, grad: &Dense, moments: &mut [Dense; 2], step: &AdamWStep) -> Result<()> {
    for other in [grad.shape, moments[0].shape, moments[1].shape] {
        expect("adamw", "a gradient and moments", other, param.shape)?;
    }
    let [first, second] = moments;
    let pieces = param.values.par_chunks_mut(PIECE).zip(grad.values.par_chunks(PIECE));
    let moments = first.values.par_chunks_mut(PIECE).zip(second.values.par_chunks_mut(PIECE));
    pieces.zip(moments).for_each(|((param, grad), (first, second))| {
        vectorised(|| {
            for (((param, grad), first), second) in param.iter_mut().zip(grad).zip(first).zip(second) {
                step.update(param, *grad, first, second);
            }
        });
    });
    Ok(())
}
