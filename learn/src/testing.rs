//! What the tests of several modules share: a model that runs in a moment, and a rank whose twin does the same.

use std::cell::Cell;
use std::rc::Rc;

use paddock_engine::backend::cpu::{Tensor, Weight};
use paddock_engine::backend::{Cpu, Device, Segments};
use paddock_engine::model::CausalLm;
use paddock_engine::weights::{Checkpoint, MemorySource};
use paddock_engine::{Error, Result};
use pollster::block_on;
use serde_json::{Map, json};

use crate::collective::{Collective, Exchange, PendingGather, PendingSum, Sharding, Stage};
use crate::cpu::Gradient;
use crate::cpu::testing::numbers;
use crate::{Adjoint, Parameters};

/// Tokens that the model knows.
pub(crate) const VOCABULARY: usize = 16;
/// Values of a token within it.
pub(crate) const HIDDEN: usize = 8;

/// A LLaMA of two layers in f32; each of its weights, fused or not, has at most 256 values.
pub(crate) fn tiny_model() -> MemorySource {
    let (key_rows, inner) = (4, 12);
    let mut tensors = vec![("model.embed_tokens.weight".to_string(), [VOCABULARY, HIDDEN])];
    for layer in 0..2 {
        let of_layer = [
            ("input_layernorm", [1, HIDDEN]),
            ("self_attn.q_proj", [HIDDEN, HIDDEN]),
            ("self_attn.k_proj", [key_rows, HIDDEN]),
            ("self_attn.v_proj", [key_rows, HIDDEN]),
            ("self_attn.o_proj", [HIDDEN, HIDDEN]),
            ("post_attention_layernorm", [1, HIDDEN]),
            ("mlp.gate_proj", [inner, HIDDEN]),
            ("mlp.up_proj", [inner, HIDDEN]),
            ("mlp.down_proj", [HIDDEN, inner]),
        ];
        tensors.extend(of_layer.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)));
    }
    tensors
        .extend([("model.norm.weight".to_string(), [1, HIDDEN]), ("lm_head.weight".to_string(), [VOCABULARY, HIDDEN])]);
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (index, (name, [rows, cols])) in tensors.into_iter().enumerate() {
        let (start, gain) = (data.len(), name.contains("norm"));
        let values = numbers(rows * cols, 40 + index as u32);
        let value = |value: f32| if gain { 1.0 + 0.3 * value } else { 0.7 * value };
        values.into_iter().for_each(|number| data.extend(value(number).to_le_bytes()));
        let shape = if gain { vec![cols] } else { vec![rows, cols] };
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }));
    }
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": inner,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64,
        "rope_theta": 10000.0,
        "tie_word_embeddings": false,
        "bos_token_id": 1,
        "eos_token_id": 2,
    });
    let header = serde_json::to_vec(&header).unwrap();
    let weights = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    let files = [("config.json", config.to_string().into_bytes()), ("model.safetensors", weights)];
    MemorySource { files: files.map(|(name, bytes)| (name.to_string(), bytes)).into() }
}

/// The model's checkpoint.
pub(crate) fn checkpoint() -> Checkpoint<MemorySource> {
    block_on(Checkpoint::open(tiny_model())).unwrap()
}

/// Sum of the log-probabilities by the untrained model of the tokens of a document at `targets`, by the engine alone.
pub(crate) fn log_prob(ids: &[u32], targets: &[usize]) -> f64 {
    let cpu = Cpu::with_threads(1);
    let model = block_on(CausalLm::load(&cpu, &mut checkpoint(), &mut |_| {})).unwrap();
    let mut segments = Segments::default();
    segments.push(ids.len(), 0, 0);
    let rows: Vec<usize> = targets.iter().map(|target| target - 1).collect();
    let following: Vec<u32> = targets.iter().map(|target| ids[*target]).collect();
    let (tokens, following) = (cpu.tokens(ids).unwrap(), cpu.tokens(&following).unwrap());
    let values: Tensor = model.token_logprobs(&tokens, &segments, &rows, &following).unwrap();
    values.values().iter().map(|value| f64::from(*value)).sum()
}

#[track_caller]
pub(crate) fn near(got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance * expected.abs().max(1.0), "{got}, expected {expected}");
}

/// Rank 0 of two, whose twin runs the same passes. Of weights with at most 256 values the twin holds no part.
#[derive(Default)]
pub(crate) struct Twin {
    /// Gathers that began, and of these, those that ended.
    pub gathers: [Rc<Cell<usize>>; 2],
    /// The same of sums.
    pub sums: [Rc<Cell<usize>>; 2],
    /// The rank's number, for what asks for no more than that.
    pub rank: Cell<usize>,
}

impl Twin {
    /// The two, with what they have exchanged.
    pub fn sharding(stage: Stage) -> (Sharding<Cpu>, Rc<Self>) {
        let twin = Rc::new(Self::default());
        (Sharding { ranks: twin.clone(), stage }, twin)
    }

    pub fn counts(&self) -> [usize; 4] {
        let [begun, ended] = &self.gathers;
        let [sums_begun, sums_ended] = &self.sums;
        [begun, ended, sums_begun, sums_ended].map(|count| count.get())
    }
}

fn count(counter: &Rc<Cell<usize>>) {
    counter.set(counter.get() + 1);
}

impl Collective<Cpu> for Twin {
    fn rank(&self) -> usize {
        self.rank.get()
    }

    fn world_size(&self) -> usize {
        2
    }

    fn gather(&self, values: Vec<f32>) -> Exchange<'_, Vec<f32>> {
        let twin = vec![0.0; values.len()];
        Box::pin(async move { Ok([values, twin].concat()) })
    }

    fn sum<'a>(&'a self, values: &'a mut [f64]) -> Exchange<'a, ()> {
        values.iter_mut().for_each(|value| *value *= 2.0);
        Box::pin(async { Ok(()) })
    }

    fn begin_gather(&self, backend: &Cpu, shard: &Weight) -> Result<PendingGather<Cpu>> {
        count(&self.gathers[0]);
        let (values, ended) = (block_on(backend.read_values(shard))?, self.gathers[1].clone());
        Ok(Box::new(move |backend, whole| {
            count(&ended);
            let [rows, cols] = backend.weight_shape(whole);
            backend.write_values(whole, 0, &values[..rows * cols])
        }))
    }

    fn begin_sum(&self, _: &Cpu, whole: &Gradient) -> Result<PendingSum<Cpu>> {
        count(&self.sums[0]);
        let (values, ended) = (whole.values().to_vec(), self.sums[1].clone());
        Ok(Box::new(move |backend, shard| {
            count(&ended);
            let mut sum = block_on(backend.read_gradient(shard))?;
            if values.len() > sum.len() {
                let expected = "a weight of which the twin holds no part".to_string();
                return Err(Error::Shape { op: "begin_sum", expected, got: format!("{} values", values.len()) });
            }
            sum.iter_mut().zip(&values).for_each(|(sum, value)| *sum += 2.0 * value);
            backend.write_gradient(shard, &sum)
        }))
    }
}
