//! How fast: products, memory, attention, decoding.

use paddock::cuda::{Cuda, Device, Driver, Dtype, Operands, Product, Slice};
use paddock_engine::backend::{Cache, Device as _, HeadLayout, Segments};
use paddock_engine::model::CausalLm;
use paddock_engine::weights::Checkpoint;
use paddock_learn::Adjoint;
use paddock_tests::block_on;
use serde_json::Value;

use super::machine::{Wait, seconds};
use super::synthetic::{Synthetic, llama_7b, smollm2_135m};

type Benchmark = fn(&Cuda<Device>) -> paddock::Result<String>;

/// All of them, with their names.
pub const ALL: [(&str, Benchmark); 7] = [
    ("bf16 product of 8192 × 8192 matrices", large_product),
    ("copy of 2 GiB on the device, read and written", memory),
    ("attention, 8 documents of 2048, 32 heads of 128", |cuda| attention(cuda, [32, 32, 128])),
    ("attention, the same with 8 key heads", |cuda| attention(cuda, [32, 8, 128])),
    ("attention, the same with heads of 64", |cuda| attention(cuda, [32, 32, 64])),
    ("SmolLM2-135M's shape: decoding in bf16", |cuda| decode(cuda, &smollm2_135m())),
    ("LLaMA-7B's shape: decoding in bf16 (70 % are asked)", |cuda| decode(cuda, &llama_7b())),
];

/// Waits for the card.
///
/// # Errors
/// When it failed in anything.
pub fn synchronize(cuda: &Cuda<Device>) -> paddock::Result<()> {
    Ok(cuda.driver().synchronize()?)
}

/// Bf16 operations a second of a large product, which other numbers are held against.
///
/// # Errors
/// When the device fails.
pub fn peak(cuda: &Cuda<Device>) -> paddock::Result<f64> {
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
