//! A whole model on the wgpu backend: its memory plan, its work per token, and splitting over buffers.

use paddock_engine::ModelConfig;
use paddock_engine::backend::Sampling;
use paddock_engine::backend::wgpu::{DEFAULT_BINDING, KvEncoding, Options, Purpose, Wgpu, plan};
use paddock_engine::config::{Head, RopeScaling};
use paddock_engine::generate::Session;
use paddock_engine::model::CausalLm;
use paddock_engine::weights::{Checkpoint, Encoding};
use paddock_tests::{block_on, fixture_source, skip};

const FIXTURE: &str = "llama-gqa-tied-sharded";

fn device() -> Option<Wgpu> {
    match block_on(Wgpu::new(Options { portable: true, ..Options::default() })) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            skip("gpu", &error.to_string());
            None
        }
    }
}

fn load(gpu: &Wgpu, name: &str) -> CausalLm<Wgpu> {
    let mut checkpoint = block_on(Checkpoint::open(fixture_source(name))).expect("a checkpoint");
    block_on(CausalLm::load(gpu, &mut checkpoint, &mut |_| {})).expect("a model")
}

/// LLaMA 7B (arXiv 2302.13971, table 2).
fn llama_7b() -> ModelConfig {
    ModelConfig {
        architecture: Default::default(),
        hidden_size: 4096,
        intermediate_size: 11008,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        num_key_value_heads: 32,
        head_dim: 128,
        vocab_size: 32000,
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Default,
        rope_factors: None,
        attention_bias: false,
        attention_output_bias: false,
        mlp_bias: false,
        head: Head::Untied,
        bos_token_id: Some(1),
        eos_token_ids: vec![2],
    }
}

#[test]
fn the_plan_is_what_the_device_allocates() {
    let Some(gpu) = device() else { return };
    let context = 100;
    let model = load(&gpu, FIXTURE);
    let mut session = Session::new(model, context).expect("a session");
    let backend = gpu.clone();
    let config = session.model().config().clone();
    let plan = plan(&config, |_| Encoding::BF16, context, DEFAULT_BINDING).expect("a plan");
    assert_eq!(backend.bytes(Purpose::Weights), plan.total(Purpose::Weights));
    assert_eq!(backend.bytes(Purpose::KvCache), plan.total(Purpose::KvCache));

    let ids: Vec<u32> = (0..90).collect();
    session.prefill(&ids).expect("a prompt");
    for _ in 0..5 {
        block_on(session.decode(1, &Sampling::default())).expect("a token");
    }
    let activations = backend.bytes(Purpose::Activations);
    assert!(activations <= plan.total(Purpose::Activations), "{activations} bytes of activations are not planned for");
}

#[test]
fn a_7b_model_at_4_bits_fits_6_gb() {
    let plan = plan(&llama_7b(), |_| Encoding::Q4_1, 2048, DEFAULT_BINDING).expect("a plan");
    assert_eq!(plan.kv, KvEncoding::F16);
    assert!(plan.largest_binding() <= DEFAULT_BINDING);
    assert!(plan.bytes() < 6_000_000_000, "{} bytes", plan.bytes());
    // 6,738,415,616 parameters, all but 266,240 of them in blocks of 32 that take 20 bytes.
    assert_eq!(plan.total(Purpose::Weights), (6_738_415_616 - 266_240) / 32 * 20 + 266_240 * 4);
}

#[test]
fn tables_beyond_a_binding_are_split() {
    let plan = plan(&llama_7b(), |_| Encoding::F16, 2048, DEFAULT_BINDING).expect("a plan");
    let pieces = plan.buffers.iter().filter(|buffer| buffer.label.starts_with("lm_head")).count();
    // 32000 × 4096 × 2 bytes are 250 MiB.
    assert_eq!(pieces, 2);
    assert!(plan.largest_binding() <= DEFAULT_BINDING);
}

#[test]
fn a_decoding_step_takes_five_dispatches_a_block_and_makes_no_bind_group() {
    let Some(gpu) = device() else { return };
    let model = load(&gpu, FIXTURE);
    let config = model.config().clone();
    let mut session = Session::new(model, 64).expect("a session");
    session.prefill(&[1, 2, 3]).expect("a prompt");
    let mut step = || {
        let before = gpu.work();
        block_on(session.decode(1, &Sampling::default())).expect("a token");
        let after = gpu.work();
        (after.dispatches - before.dispatches, after.submits - before.submits, after.bind_groups - before.bind_groups)
    };
    for _ in 0..3 {
        step();
    }
    // Beside the blocks: embedding, final norm with head, and two for the greedy choice.
    assert_eq!(step(), (5 * config.num_hidden_layers as u64 + 4, 1, 0));
}
