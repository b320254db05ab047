//! The record of a forward pass, and the backward pass through it.

use std::ops::Range;

use paddock_engine::backend::Device;
use paddock_engine::{Error, Result};

use super::op::Op;
use super::parameter::Parameters;
use crate::Adjoint;
use crate::collective::Sharding;
use crate::store::Store;

/// An activation that a tape knows.
pub struct Var<B: Device> {
    pub(super) value: B::Tensor,
    /// Its node; `None` when no gradient flows to it.
    pub(super) node: Option<usize>,
}

impl<B: Device> Clone for Var<B> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), node: self.node }
    }
}

struct Node<B: Device> {
    op: Op<B>,
    /// `None` once a checkpoint has dropped it.
    value: Option<B::Tensor>,
    wanted: bool,
}

/// Operations in the order in which they ran.
pub(super) struct Graph<B: Device> {
    nodes: Vec<Node<B>>,
    /// Where blocks begin and end.
    marks: Vec<usize>,
}

impl<B: Device> Default for Graph<B> {
    fn default() -> Self {
        Self { nodes: Vec::new(), marks: Vec::new() }
    }
}

impl<B: Adjoint> Graph<B> {
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node of `var`, which becomes a leaf when it has none.
    pub fn node(&mut self, var: &Var<B>) -> usize {
        var.node.unwrap_or_else(|| self.push(Op::Leaf, Some(var.value.clone()), false))
    }

    /// Whether gradients flow to any operand of `op`.
    pub fn wants(&self, op: &Op<B>) -> bool {
        op.operands().any(|node| self.nodes.get(node).is_some_and(|node| node.wanted))
    }

    pub fn push(&mut self, op: Op<B>, value: Option<B::Tensor>, wanted: bool) -> usize {
        self.nodes.push(Node { op, value, wanted });
        self.nodes.len() - 1
    }

    /// Forgets what came after the first `len` nodes.
    pub fn truncate(&mut self, len: usize) {
        self.nodes.truncate(len);
    }

    /// The value of a node.
    pub fn value(&self, node: usize) -> Result<B::Tensor> {
        self.nodes.get(node).and_then(|node| node.value.clone()).ok_or_else(|| Error::Shape {
            op: "tape",
            expected: "a tensor of the current forward pass".to_string(),
            got: "one from an earlier pass".to_string(),
        })
    }

    /// A block ends here. Values that the backward pass does not read are dropped; with `release`, all but the last since
    /// the mark before are, and the backward pass computes them anew.
    pub fn mark(&mut self, release: bool) {
        let start = self.marks.last().copied().unwrap_or(0);
        let end = self.nodes.len();
        let mut keep = vec![false; end.saturating_sub(start)];
        if !release {
            let read = self.nodes[start..end].iter().filter_map(|node| node.op.remembered());
            read.filter(|node| *node >= start).for_each(|node| keep[node - start] = true);
        }
        if let Some(last) = keep.last_mut() {
            *last = true;
        }
        for (node, keep) in self.nodes[start..end].iter_mut().zip(keep) {
            if !keep && !matches!(node.op, Op::Leaf) {
                node.value = None;
            }
        }
        self.marks.push(end);
    }

    /// The backward pass from `seeds`, gradients of nodes: adds to the gradients of the parameters.
    pub async fn backward<S: Store<B>>(
        mut self,
        inner: &B,
        store: &S,
        sharding: Option<&Sharding<B>>,
        parameters: &mut Parameters<B, S>,
        seeds: Vec<(usize, B::Tensor)>,
    ) -> Result<()> {
        let mut grads: Vec<Option<B::Tensor>> = (0..self.nodes.len()).map(|_| None).collect();
        for (node, seed) in seeds {
            add(inner, &mut grads, node, seed)?;
        }
        let mut end = self.nodes.len();
        let mut marks = std::mem::take(&mut self.marks);
        while end > 0 {
            let start = marks.pop().unwrap_or(0);
            if let Some(sharding) = sharding {
                let weights = self.nodes[start..end].iter().flat_map(|node| node.op.weights());
                parameters.fetch(inner, sharding, weights, true)?;
                let before = marks.last().copied().unwrap_or(0)..start;
                parameters.prefetch(inner, sharding, self.nodes[before].iter().flat_map(|node| node.op.weights()))?;
            }
            self.recompute(inner, parameters, start..end)?;
            for index in (start..end).rev() {
                let Some(grad) = grads[index].take() else { continue };
                let nodes = &self.nodes;
                nodes[index].op.backward(
                    inner,
                    store,
                    parameters,
                    |node| self.value(node),
                    |node| nodes.get(node).is_some_and(|node| node.wanted),
                    grad,
                    |node, grad| if nodes[node].wanted { add(inner, &mut grads, node, grad) } else { Ok(()) },
                )?;
            }
            if let Some(sharding) = sharding {
                parameters.end_block(inner, store, sharding)?;
            }
            parameters.settle(inner, store).await?;
            self.nodes.truncate(start);
            end = start;
        }
        Ok(())
    }

    /// Computes the values that a checkpoint has dropped and the backward pass through `range` reads.
    fn recompute<S: Store<B>>(&mut self, inner: &B, parameters: &Parameters<B, S>, range: Range<usize>) -> Result<()> {
        for index in range {
            if let Some(operand) = self.nodes[index].op.remembered() {
                self.ensure(inner, parameters, operand)?;
            }
        }
        Ok(())
    }

    /// Computes the value of `node`, and before it those of its operands, where they were dropped.
    fn ensure<S: Store<B>>(&mut self, inner: &B, parameters: &Parameters<B, S>, node: usize) -> Result<()> {
        if self.nodes[node].value.is_none() {
            let operands: Vec<usize> = self.nodes[node].op.operands().collect();
            for operand in operands {
                self.ensure(inner, parameters, operand)?;
            }
            self.nodes[node].value = self.nodes[node].op.run(inner, parameters, |node| self.value(node))?;
        }
        Ok(())
    }
}

fn add<B: Adjoint>(inner: &B, grads: &mut [Option<B::Tensor>], node: usize, grad: B::Tensor) -> Result<()> {
    if let Some(slot) = grads.get_mut(node) {
        *slot = Some(match slot.take() {
            Some(sum) => inner.accumulate(sum, &grad)?,
            None => grad,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::Cpu;

    use super::*;

    /// ReLU's backward pass reads its operand, a sum's reads none.
    #[test]
    fn a_mark_drops_what_the_backward_pass_does_not_read() {
        for (release, expected) in
            [(false, [true, false, true, false, true]), (true, [true, false, false, false, true])]
        {
            let mut graph = Graph::<Cpu>::default();
            let value = || Some(Cpu::with_threads(1).tensor([1, 1], &[1.0]).unwrap());
            for op in
                [Op::Leaf, Op::Add { a: 0, b: 0 }, Op::Add { a: 1, b: 1 }, Op::Relu { x: 2 }, Op::Add { a: 3, b: 3 }]
            {
                graph.push(op, value(), true);
            }
            graph.mark(release);
            let kept = [0, 1, 2, 3, 4].map(|node| graph.value(node).is_ok());
            assert_eq!(kept, expected, "release: {release}");
            // The last of a block stays, though no backward pass of the next reads it.
            graph.push(Op::Add { a: 4, b: 4 }, value(), true);
            graph.mark(release);
            assert!(graph.value(4).is_ok() && graph.value(5).is_ok());
        }
    }
}
