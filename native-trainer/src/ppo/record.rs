//! What an iteration leaves to look at: its answers, and of given rollouts every intermediate.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::hexadecimal;
use paddock_learn::objective::Objective;
use paddock_learn::tape::{Named, named};
use paddock_learn::{Adjoint, Store};
use pollster::block_on;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::experience::Answer;
use super::roles::{Roles, params};
use super::state::trained_parameters;
use super::update::Report;
use crate::files::{AtomicFolder, Dtype, TensorSpec, write_file, write_safetensors};
use crate::{Error, Result};

/// The answers of an iteration, and what was done with them.
pub(super) struct Iteration<'a> {
    pub number: u64,
    pub answers: &'a [Answer],
    pub advantages: &'a [Vec<f64>],
    pub updates: &'a [Report],
    /// The actor's.
    pub tokenizer: &'a Tokenizer,
    /// Of what sampled them.
    pub digest: &'a str,
    /// Whether arrays and weights are written, too.
    pub given: bool,
}

/// SHA-256 of the values of what is trained of the actor, in hexadecimal digits.
///
/// # Errors
/// When the device fails.
pub(super) async fn digest<B: Adjoint, S: Store<B>>(roles: &Roles<B, S>) -> Result<String> {
    let (tape, mut hasher) = (roles.actor.tape(), Sha256::new());
    for info in trained_parameters(tape, roles.actor.objective().trained()) {
        hasher.update(info.label.as_bytes());
        tape.read_parameter(info.id).await?.iter().for_each(|value| hasher.update(value.to_le_bytes()));
    }
    Ok(hexadecimal(&hasher.finalize()))
}

impl Iteration<'_> {
    /// Writes `output/iteration-<number>`, which appears whole or not at all; ranks but the first give their parts of the
    /// weights.
    ///
    /// # Errors
    /// When the disk refuses, or a rank has ended.
    pub fn write<B: Adjoint, S: Store<B>>(&self, output: &Path, roles: &Roles<B, S>) -> Result<()> {
        let weights = if self.given { weights(roles)? } else { Vec::new() };
        if !roles.actor.leads() {
            return Ok(());
        }
        let folder = AtomicFolder::create(&output.join(format!("iteration-{}", self.number)))?;
        let path = folder.path();
        let lines = |values: Vec<Value>| values.iter().map(|value| format!("{value}\n")).collect::<String>();
        let answers = self.answers.iter().zip(self.advantages).map(|(answer, own)| self.line(answer, own)).collect();
        write_file(&path.join("completions.jsonl"), &lines(answers))?;
        let updates = self.updates.iter().map(|report| json!(report)).collect();
        write_file(&path.join("updates.jsonl"), &lines(updates))?;
        if self.given {
            write_tensors(&path.join("arrays.safetensors"), self.arrays())?;
            write_tensors(&path.join("weights.safetensors"), weights)?;
        }
        folder.commit()
    }

    fn line(&self, answer: &Answer, advantages: &[f64]) -> Value {
        json!({
            "iteration": self.number,
            "prompt": answer.rollout.prompt,
            "text": answer.text,
            "prompt_ids": answer.rollout.prompt_ids,
            "ids": answer.rollout.response_ids,
            "tokens": self.tokens(&answer.rollout.response_ids),
            "log_probs": answer.log_probs,
            "ref_log_probs": answer.reference,
            "values": answer.reward_values,
            "cost_values": answer.cost_values,
            "advantages": advantages,
            "score": number(answer.reward),
            "cost": answer.cost,
            "kl": answer.kl(),
            "stop_reason": answer.rollout.finish,
            "policy": self.digest,
        })
    }

    /// What each token adds to the text; of one that adds nothing (special, or part of a character), its spelling in the
    /// vocabulary.
    fn tokens(&self, ids: &[u32]) -> Vec<String> {
        let mut stream = self.tokenizer.stream();
        let text = |id: &u32| match stream.push(self.tokenizer, *id) {
            text if text.is_empty() => self.tokenizer.token(*id).unwrap_or_default(),
            text => text,
        };
        ids.iter().map(text).collect()
    }

    /// Names as in PyTorch's record of the same computation.
    fn arrays(&self) -> Vec<(String, Vec<f32>)> {
        let narrow = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
        let mut arrays = Vec::new();
        for (index, (answer, advantages)) in self.answers.iter().zip(self.advantages).enumerate() {
            let own = [
                ("log_probs", answer.all_log_probs.clone()),
                ("ref_log_probs", answer.all_reference.clone()),
                ("reward", vec![answer.reward as f32]),
                ("reward_values", answer.all_reward_values.clone()),
                ("token_rewards", narrow(&answer.token_rewards)),
                ("reward_advantages", narrow(&answer.reward_estimate.advantages)),
                ("reward_returns", narrow(&answer.reward_estimate.returns)),
                ("cost", answer.cost.iter().map(|cost| *cost as f32).collect()),
                ("cost_values", answer.all_cost_values.clone()),
                ("token_costs", narrow(&answer.token_costs)),
                ("cost_advantages", narrow(&answer.cost_estimate.advantages)),
                ("cost_returns", narrow(&answer.cost_estimate.returns)),
                ("advantages", narrow(advantages)),
            ];
            let own = own.into_iter().filter(|(_, values)| !values.is_empty());
            arrays.extend(own.map(|(name, values)| (format!("seq{index}.{name}"), values)));
        }
        arrays
    }
}

/// JSON has no NaN.
fn number(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn write_tensors(path: &Path, tensors: Vec<(String, Vec<f32>)>) -> Result<()> {
    let spec = |(name, values): &(String, Vec<f32>)| TensorSpec {
        name: name.clone(),
        shape: vec![values.len()],
        dtype: Dtype::F32,
    };
    let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
    let mut file = BufWriter::new(File::create(path).map_err(Error::path("create", path))?);
    write_safetensors(&mut file, &specs, |index| Ok(tensors[index].1.clone()))?;
    file.flush().map_err(Error::path("write", path))
}

/// The weights of the trained models after the iteration, by network: `actor.`, `reward_critic.` and `cost_critic.` before
/// the tensor's name. Adapters have the names that their role gave them.
fn weights<B: Adjoint, S: Store<B>>(roles: &Roles<B, S>) -> Result<Vec<(String, Vec<f32>)>> {
    let mut tensors = Vec::new();
    let mut add = |network: &str, tape: &paddock_learn::Tape<B, S>, trained, params| -> Result<()> {
        if trained {
            for info in trained_parameters(tape, None) {
                tensors.push((format!("{network}.{}", info.label), block_on(tape.read_parameter(info.id))?));
            }
            return Ok(());
        }
        for tensor in named(params, tape)? {
            let tensor: Named = tensor;
            let values = block_on(tape.read_parameter(tensor.parameter))?;
            tensors.push((format!("{network}.{}", tensor.param.name), tensor.values(&values).to_vec()));
        }
        Ok(())
    };
    let actor = &roles.actor;
    let of = |config| params(config);
    add("actor", actor.tape(), actor.objective().trained().is_some(), of(actor.objective().model().config()))?;
    for (network, critic) in [("reward_critic", &roles.reward_critic), ("cost_critic", &roles.cost_critic)] {
        let Some(critic) = critic else { continue };
        let objective = critic.trainer.objective();
        let config = objective.model().trunk().config();
        add(network, critic.trainer.tape(), objective.trained().is_some(), of(config))?;
    }
    Ok(tensors)
}
