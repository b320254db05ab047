//! Several models on one tape: they share a trunk, and each has adapters and a head of its own.

use std::rc::Rc;

use paddock_engine::config::HeadSpec;
use paddock_engine::model::{CausalLm, ScoreModel, Trunk};
use paddock_engine::weights::LowRank;

use crate::lora::Lora;
use crate::optim::Precision;
use crate::store::Store;
use crate::tape::{ParameterId, Tape};
use crate::{Adjoint, Result};

/// The parameters of one of them. On the tape their names begin with the role's and a slash.
pub struct Role<B: Adjoint, S: Store<B> = B> {
    tape: Tape<B, S>,
    name: String,
    trained: bool,
    parameters: Vec<ParameterId>,
}

impl<B: Adjoint, S: Store<B>> Role<B, S> {
    /// A role without parameters; those that it gets are trained, or frozen.
    pub fn new(tape: &Tape<B, S>, name: &str, trained: bool) -> Self {
        Self { tape: tape.clone(), name: name.to_string(), trained, parameters: Vec::new() }
    }

    /// Its parameters, in the order in which it got them.
    pub fn into_parameters(self) -> Vec<ParameterId> {
        self.parameters
    }

    /// Gives `model` these products, by module, beside its weights.
    ///
    /// # Errors
    /// When the model has no such module, or there is no room.
    pub fn adapt_language_model(
        &mut self,
        model: &mut CausalLm<Tape<B, S>>,
        products: &[(String, LowRank)],
    ) -> Result<()> {
        products.iter().try_for_each(|(module, product)| {
            let [a, b] = self.factors(module, product)?;
            model.adapt(module, product.scale, &a, &b)
        })
    }

    /// As [`Role::adapt_language_model`].
    ///
    /// # Errors
    /// When the model has no such module, or there is no room.
    pub fn adapt_score_model(
        &mut self,
        model: &mut ScoreModel<Tape<B, S>>,
        products: &[(String, LowRank)],
    ) -> Result<()> {
        products.iter().try_for_each(|(module, product)| {
            let [a, b] = self.factors(module, product)?;
            model.adapt(module, product.scale, &a, &b)
        })
    }

    /// A score model on `trunk` with a head of the role's own: its weight, `[1, hidden_size]`, and its bias.
    ///
    /// # Errors
    /// When there is no room.
    pub fn score_model(
        &mut self,
        trunk: Rc<Trunk<Tape<B, S>>>,
        head: HeadSpec,
        weight: &[f32],
        bias: Option<f32>,
    ) -> Result<ScoreModel<Tape<B, S>>> {
        let weight = self.matrix("score.weight", [1, weight.len()], weight)?;
        let bias = bias.map(|bias| self.matrix("score.bias", [1, 1], &[bias])).transpose()?;
        Ok(ScoreModel::on_trunk(trunk, head, weight, bias))
    }

    fn factors(&mut self, module: &str, LowRank { rank, a, b, .. }: &LowRank) -> Result<[ParameterId; 2]> {
        let [a_label, b_label] = Lora::labels(module);
        let first = self.matrix(&a_label, [*rank, a.len() / rank.max(&1)], a)?;
        Ok([first, self.matrix(&b_label, [b.len() / rank.max(&1), *rank], b)?])
    }

    fn matrix(&mut self, label: &str, shape: [usize; 2], values: &[f32]) -> Result<ParameterId> {
        let label = format!("{}/{label}", self.name);
        let id = self.tape.create_parameter(&label, shape, Precision::F32, self.trained)?;
        self.tape.write_parameter(id, 0, values)?;
        self.parameters.push(id);
        Ok(id)
    }
}
