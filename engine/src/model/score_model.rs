//! A model that gives every token a score: the reward and cost models of Safe-RLHF, and classifiers.

use std::rc::Rc;

use super::gate::Gate;
use super::{Attend, CausalLm, LoadProgress, Loader, Trunk};
use crate::backend::{Operations, Segments, WeightPart};
use crate::config::{HeadSpec, MEAN, Reduce, VAR};
use crate::weights::{Checkpoint, Encoding, Source};
use crate::{Error, ModelConfig, Result};

/// A trunk with a head on the hidden state after the final norm: one layer, or several with a ReLU between them.
pub struct ScoreModel<B: Operations> {
    trunk: Rc<Trunk<B>>,
    head: HeadSpec,
    first: Layer<B>,
    further: Vec<Layer<B>>,
    /// Of a head whose score is a mixture.
    gate: Option<Gate<B>>,
}

struct Layer<B: Operations> {
    weight: B::Weight,
    bias: Option<B::Weight>,
}

impl<B: Operations> ScoreModel<B> {
    /// Streams a checkpoint onto the device. `progress` is called after each chunk.
    ///
    /// # Errors
    /// When the checkpoint is not a score model's or holds its head alone; what the source, the checkpoint or the
    /// device report.
    pub async fn load<S: Source>(
        backend: &B,
        checkpoint: &mut Checkpoint<S>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let head = head_of(checkpoint.config())?;
        if let Some(trunk) = &head.trunk {
            return Err(Error::Request(format!(
                "this is a score head without a model; load it beside {}, on which it was trained",
                trunk.name
            )));
        }
        let mut loader = Loader::new(backend, checkpoint, progress);
        let trunk = Rc::new(Trunk::load(backend, &mut loader).await?);
        Self::load_head(trunk, head, loader).await
    }

    /// Loads a checkpoint that holds a head alone, onto the trunk it was trained on.
    ///
    /// # Errors
    /// When the checkpoint is not such a head, or was trained on another trunk.
    pub async fn load_beside<S: Source>(
        trunk: Rc<Trunk<B>>,
        checkpoint: &mut Checkpoint<S>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let head = head_of(checkpoint.config())?;
        let Some(reference) = &head.trunk else {
            return Err(Error::Request("this score model has a trunk of its own; load it on its own".to_string()));
        };
        if reference.fingerprint != trunk.fingerprint() || checkpoint.config().hidden_size != trunk.config().hidden_size
        {
            return Err(Error::Request(format!(
                "this score head was trained on {}, which is not the model that is loaded; load that one first",
                reference.name
            )));
        }
        let backend = trunk.backend().clone();
        Self::load_head(trunk, head, Loader::new(&backend, checkpoint, progress)).await
    }

    async fn load_head<S: Source>(
        trunk: Rc<Trunk<B>>,
        mut head: HeadSpec,
        mut loader: Loader<'_, B, S>,
    ) -> Result<Self> {
        let mut layers = Vec::new();
        for layer in head.layers() {
            let weight = loader.matrix(&[&layer.weight]).await?;
            let bias = loader.bias(layer.bias.is_some(), layer.bias.as_slice()).await?;
            layers.push(Layer { weight, bias });
        }
        let mut layers = layers.into_iter();
        let first = layers.next().ok_or_else(|| Error::Request("this score head has no layers".to_string()))?;
        let further = layers.collect();
        let gate = match head.mixture() {
            Some(mixture) => Some(Gate::load(mixture, &mut loader).await?),
            None => None,
        };
        if head.statistics {
            head.mean = loader.values(&[MEAN]).await?;
            head.var = loader.values(&[VAR]).await?;
        }
        loader.finish().await?;
        Ok(Self { trunk, head, first, further, gate })
    }

    /// The logits of `tokens`, `reduce`d to one score.
    ///
    /// # Errors
    /// When the model has no such token, or the device fails.
    pub async fn of_tokens(model: &CausalLm<B>, tokens: &[u32], reduce: Reduce) -> Result<Self> {
        let (backend, hidden) = (model.backend(), model.config().hidden_size);
        let values = model.token_weights(tokens).await?;
        let part = WeightPart { rows: tokens.len(), encoding: Encoding::F32 };
        let mut weight = backend.create_weight("the weights of the tokens that are scored", hidden, &[part])?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        backend.write_rows(&mut weight, 0, &bytes)?;
        Ok(Self::on_trunk(model.trunk().clone(), HeadSpec::of_tokens(reduce), weight, None))
    }

    /// A head of one layer, `[score_dim, hidden_size]` and as many biases, on a trunk that is loaded.
    pub fn on_trunk(trunk: Rc<Trunk<B>>, head: HeadSpec, weight: B::Weight, bias: Option<B::Weight>) -> Self {
        Self { trunk, head, first: Layer { weight, bias }, further: Vec::new(), gate: None }
    }

    /// The weights of the head, where it is of one layer whose outputs are the scores.
    pub fn linear_head(&self) -> Option<(&B::Weight, Option<&B::Weight>)> {
        let is_linear = self.further.is_empty() && self.head.reduce == Reduce::Outputs;
        is_linear.then_some((&self.first.weight, self.first.bias.as_ref()))
    }

    /// Everything below the head.
    pub fn trunk(&self) -> &Rc<Trunk<B>> {
        &self.trunk
    }

    /// Gives a module of the trunk a low-rank adapter, as [`Trunk::adapt`] does. Models that share the trunk keep it
    /// without the adapter; the weights stay shared.
    ///
    /// # Errors
    /// When the trunk has no such module.
    pub fn adapt(&mut self, module: &str, scale: f32, a: &B::Weight, b: &B::Weight) -> Result<()> {
        Rc::make_mut(&mut self.trunk).adapt(module, scale, a, b)
    }

    /// The head, with the mean and variance that the checkpoint gave.
    pub fn head(&self) -> &HeadSpec {
        &self.head
    }

    /// The backend that holds the model.
    pub fn backend(&self) -> &B {
        self.trunk.backend()
    }

    /// Scores of every row, not normalised: `[tokens, score_dim]`. `attend` says what rows attend to.
    ///
    /// # Errors
    /// When the batch does not fit a cache, or the device fails.
    pub fn forward(&self, tokens: &B::Tokens, segments: &Segments, attend: &mut impl Attend<B>) -> Result<B::Tensor> {
        self.scores(&self.trunk.forward(tokens, segments, attend)?)
    }

    /// Scores of hidden rows before the final norm, not normalised: `[rows, score_dim]`.
    ///
    /// # Errors
    /// When the score is not the head's output itself, or the device fails.
    pub fn scores(&self, x: &B::Tensor) -> Result<B::Tensor> {
        let what = match self.head.reduce {
            Reduce::Outputs => return self.outputs(x),
            Reduce::Mixture(_) => "a weighted sum of several rewards (ArmoRM, QRM, URM)",
            Reduce::Probability(_) => "a probability for each step of an answer (a process reward model)",
        };
        Err(Error::Request(format!(
            "this model's score is {what}, which only paddock score and paddock rank compute; take a model whose score is its \
             head's output"
        )))
    }

    /// What [`ScoreModel::conversation`] makes a conversation's scores of, from hidden rows before the final norm: the same
    /// number of values for each row.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn read(&self, x: &B::Tensor) -> Result<Vec<f32>> {
        let outputs = self.backend().read(&self.outputs(x)?).await?;
        let (Some(gate), Some(mixture)) = (&self.gate, self.head.mixture()) else { return Ok(outputs) };
        let weights = gate.weights(mixture, &self.trunk, x).await?;
        let outputs = outputs.chunks_exact((mixture.rewards * mixture.outputs_each).max(1));
        let rows = outputs.zip(weights.chunks_exact(mixture.rewards.max(1)));
        Ok(rows.flat_map(|(outputs, weights)| outputs.iter().chain(weights)).copied().collect())
    }

    /// The scores of a conversation's tokens, `[tokens, score_dim]`, from what [`ScoreModel::read`] gave for them; normalised
    /// when the model asks for that. `question` is the token at which a mixture by question finds its weights.
    ///
    /// # Errors
    /// When the conversation has no such token.
    pub fn conversation(&self, outputs: Vec<f32>, question: Option<usize>) -> Result<Vec<f32>> {
        let mut scores = match (&self.gate, &self.head.reduce) {
            (Some(gate), Reduce::Mixture(mixture)) => gate.sum(mixture, &outputs, question)?,
            (_, Reduce::Probability(of)) => {
                // The softmax of two is the logistic function of their difference.
                let probability = |two: &[f32; 2]| 1.0 / (1.0 + (two[1 - of.min(&1)] - two[*of.min(&1)]).exp());
                outputs.as_chunks().0.iter().map(probability).collect()
            }
            _ => outputs,
        };
        if self.head.do_normalize {
            self.head.normalize(&mut scores);
        }
        Ok(scores)
    }

    fn outputs(&self, x: &B::Tensor) -> Result<B::Tensor> {
        let mut x = self.trunk.head(x, &self.first.weight, self.first.bias.as_ref())?;
        for Layer { weight, bias } in &self.further {
            x = self.backend().linear(&self.backend().relu(&x)?, weight, bias.as_ref())?;
        }
        Ok(x)
    }
}

fn head_of(config: &ModelConfig) -> Result<HeadSpec> {
    config.score_head().cloned().ok_or_else(|| {
        Error::Request(
            "this model has no score head; expected a reward, cost or classification model (LlamaForScore, \
             LlamaForSequenceClassification)"
                .to_string(),
        )
    })
}
