//! How fast: products, memory, attention, a step of fine-tuning, decoding.

use std::time::Instant;

use paddock::autograd::Adjoint;
use paddock::cuda::{Cuda, Device, Driver, Dtype, Operands, Product, Slice};
use paddock::data::{Example, Share};
use paddock::optim::{AdamW, Precision};
use paddock::train::{LossNormalization, OptimizerStep, StepSettings, Trainer, TrainerOptions};
use paddock_engine::backend::{Backend, HeadLayout, Segments};
use paddock_engine::model::CausalLm;
use paddock_engine::weights::Checkpoint;
use paddock_tests::block_on;
use serde_json::Value;

use super::synthetic::{Synthetic, llama_7b, smollm2_135m};

type Benchmark = fn(&Cuda<Device>) -> paddock::Result<String>;

/// All of them, with their names.
pub const ALL: [(&str, Benchmark); 9] = [
    ("bf16 product of 8192 × 8192 matrices", large_product),
    ("copy of 2 GiB on the device, read and written", memory),
    ("attention, 8 documents of 2048, 32 heads of 128", |cuda| attention(cuda, [32, 32, 128])),
    ("attention, the same with 8 key heads", |cuda| attention(cuda, [32, 8, 128])),
    ("attention, the same with heads of 64", |cuda| attention(cuda, [32, 32, 64])),
    ("SmolLM2-135M's shape: fine-tuning", |cuda| step(cuda, &smollm2_135m(), 8)),
    ("SmolLM2-135M's shape: decoding", |cuda| decode(cuda, &smollm2_135m())),
    ("LLaMA-7B's shape: decoding", |cuda| decode(cuda, &llama_7b())),
    ("LLaMA-7B's shape: full fine-tuning, 8 bytes a parameter", |cuda| step(cuda, &llama_7b(), 4)),
];

/// Waits for the card.
///
/// # Errors
/// When it failed in anything.
pub fn synchronize(cuda: &Cuda<Device>) -> paddock::Result<()> {
    Ok(cuda.driver().synchronize()?)
}

/// Median of the seconds of `runs` runs, after one that warms up.
fn seconds<R>(
    wait: impl Fn() -> paddock::Result<()>,
    runs: usize,
    mut run: impl FnMut() -> paddock::Result<R>,
) -> paddock::Result<f64> {
    let mut times = Vec::new();
    for index in 0..=runs {
        wait()?;
        let began = Instant::now();
        run()?;
        wait()?;
        if index > 0 {
            times.push(began.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Bf16 products a second, which other numbers are held against.
fn peak(cuda: &Cuda<Device>) -> paddock::Result<f64> {
    const SIZE: usize = 8192;
    let driver = cuda.driver();
    let matrices = [driver.alloc(2 * SIZE * SIZE)?, driver.alloc(2 * SIZE * SIZE)?, driver.alloc(2 * SIZE * SIZE)?];
    matrices.iter().try_for_each(|matrix| driver.clear(Slice::from(matrix), 2 * SIZE * SIZE))?;
    let [a, b, out] = &matrices;
    let product = Product::linear(SIZE, SIZE, SIZE, Dtype::Bf16, Dtype::Bf16);
    let operands = || Operands { a: Slice::from(a), b: Slice::from(b), add: None, out: Slice::from(out) };
    let time = seconds(|| synchronize(cuda), 10, || Ok(driver.multiply(&product, operands())?))?;
    Ok(2.0 * (SIZE as f64).powi(3) / time)
}

fn large_product(cuda: &Cuda<Device>) -> paddock::Result<String> {
    Ok(format!("{:.0} TFLOP/s (of zeros)", peak(cuda)? / 1e12))
}

/// Bytes a second, read and written.
///
/// # Errors
/// When the device fails.
pub fn bandwidth(cuda: &Cuda<Device>) -> paddock::Result<f64> {
    const BYTES: usize = 1 << 30;
    let driver = cuda.driver();
    let (from, to) = (driver.alloc(BYTES)?, driver.alloc(BYTES)?);
    let time = seconds(|| synchronize(cuda), 10, || Ok(driver.copy(Slice::from(&from), Slice::from(&to), BYTES)?))?;
    Ok(2.0 * BYTES as f64 / time)
}

fn memory(cuda: &Cuda<Device>) -> paddock::Result<String> {
    Ok(format!("{:.0} GB/s", bandwidth(cuda)? / 1e9))
}

/// Waits for everything that a backend was asked for.
pub type Wait<'a, B> = &'a dyn Fn(&B) -> paddock::Result<()>;

/// TFLOP/s of attention.
pub struct AttentionSpeed {
    pub forward: f64,
    pub backward: f64,
}

/// Causal attention on documents of `length` tokens.
///
/// # Errors
/// When the device fails.
pub fn attention_speed<B: Adjoint>(
    backend: &B,
    wait: Wait<B>,
    heads: HeadLayout,
    length: usize,
    documents: usize,
) -> paddock::Result<AttentionSpeed> {
    let segments = Segments::documents(&vec![length; documents]);
    // Small values that do not repeat at once; what an operation gives has the format of values.
    let activation = |shape: [usize; 2]| -> paddock::Result<B::Tensor> {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect();
        Ok(backend.relu(&backend.tensor(shape, &values)?)?)
    };
    let qkv = activation([segments.rows(), heads.qkv_dim()])?;
    let grad = activation([segments.rows(), heads.q_dim()])?;
    // Two products of half of the square each; their adjoint is counted as five, as everybody does.
    let products = (documents * 4 * (length * length / 2)) as f64 * heads.q_dim() as f64;
    let wait = || wait(backend);
    // The rows keep what attention gave, for the adjoint: a copy of the rows each time has it computed.
    let forward = seconds(wait, 5, || Ok(backend.attention(&backend.add(&qkv, &qkv)?, heads, &segments)?))?;
    let copy = seconds(wait, 5, || Ok(backend.add(&qkv, &qkv)?))?;
    backend.attention(&qkv, heads, &segments)?;
    let backward = seconds(wait, 5, || Ok(backend.attention_adjoint(&qkv, heads, &segments, &grad)?))?;
    Ok(AttentionSpeed { forward: products / (forward - copy) / 1e12, backward: 2.5 * products / backward / 1e12 })
}

fn attention(cuda: &Cuda<Device>, [heads, kv_heads, head_dim]: [usize; 3]) -> paddock::Result<String> {
    let found = attention_speed(cuda, &synchronize, HeadLayout { heads, kv_heads, head_dim }, 2048, 8)?;
    Ok(format!("forward {:.0}, backward {:.0} TFLOP/s", found.forward, found.backward))
}

/// Steps on `documents` packed documents of 2048 tokens, half of them to be predicted.
fn step(cuda: &Cuda<Device>, config: &Value, documents: usize) -> paddock::Result<String> {
    const LENGTH: usize = 2048;
    block_on(async {
        let mut checkpoint = Checkpoint::open(Synthetic::new(config)?).await?;
        let precision = Precision::Bf16Stochastic;
        let options = TrainerOptions { checkpointing: true, precision, ..TrainerOptions::default() };
        let mut trainer = Trainer::load(cuda.clone(), None, &mut checkpoint, options, &mut |_| {}).await?;
        let config = trainer.config().clone();
        let ids =
            |document: usize| (0..LENGTH).map(|i| ((i * 31 + document * 977) % config.vocab_size) as u32).collect();
        let examples: Vec<Example> =
            (0..documents).map(|d| Example { ids: ids(d), targets: (LENGTH / 2..LENGTH).collect() }).collect();
        let batch: Vec<&Example> = examples.iter().collect();
        // Two documents go through the model at a time.
        let share = Share::whole(&batch, 2 * LENGTH);
        let mut number = 0;
        let time = seconds(
            || synchronize(cuda),
            3,
            || {
                number += 1;
                let adamw = AdamW::default();
                let optimizer = OptimizerStep { number, learning_rate: 1e-6, adamw, max_grad_norm: 1.0, seed: 1 };
                let settings = StepSettings { optimizer, normalization: LossNormalization::Global };
                block_on(trainer.step(&share, &settings))
            },
        )?;
        let (free, total) = cuda.driver().memory()?;
        drop(trainer);
        let tokens = (documents * LENGTH) as f64;
        let parameters: usize = config.params().iter().map(|param| param.shape.iter().product::<usize>()).sum();
        let embedding = config.vocab_size * config.hidden_size;
        // Six a parameter and token without the embedding, and attention's half square, forward and backward.
        let attention = 6.0 * (config.num_hidden_layers * config.num_attention_heads * config.head_dim * LENGTH) as f64;
        let work = (6.0 * (parameters - embedding) as f64 + attention) * tokens;
        let peak = peak(cuda)?;
        Ok(format!(
            "{:.0} tokens/s, {:.1} % of the product's speed, {:.1} GiB taken",
            tokens / time,
            100.0 * work / time / peak,
            (total - free) as f64 / f64::from(1 << 30)
        ))
    })
}

/// One sequence, token by token.
fn decode(cuda: &Cuda<Device>, config: &Value) -> paddock::Result<String> {
    const PROMPT: usize = 512;
    block_on(async {
        let mut checkpoint = Checkpoint::open(Synthetic::new(config)?).await?;
        let model = CausalLm::load(cuda, &mut checkpoint, &mut |_| {}).await?;
        let config = model.config().clone();
        let heads = HeadLayout::of(&config);
        let mut cache = cuda.kv_cache(config.num_hidden_layers, heads, 1, 1024)?;
        let ids: Vec<u32> = (0..PROMPT as u32).collect();
        let prompt = cuda.tokens(&ids)?;
        let prefill = seconds(
            || synchronize(cuda),
            3,
            || Ok(model.forward_cached(&prompt, &Segments::continuation(PROMPT, 0, 0), &mut cache)?),
        )?;
        let token = cuda.tokens(&[7])?;
        let mut past = PROMPT;
        let time = seconds(
            || synchronize(cuda),
            64,
            || {
                past += 1;
                Ok(model.forward_cached(&token, &Segments::continuation(1, past - 1, 0), &mut cache)?)
            },
        )?;
        let parameters: usize = config.params().iter().map(|param| param.shape.iter().product::<usize>()).sum();
        let bytes = 2.0 * (parameters - config.vocab_size * config.hidden_size) as f64;
        drop(model);
        let bandwidth = bandwidth(cuda)?;
        Ok(format!(
            "reads {:.0}, writes {:.1} tokens/s: {:.0} % of the memory's bandwidth",
            PROMPT as f64 / prefill,
            1.0 / time,
            100.0 * bytes / time / bandwidth
        ))
    })
}
