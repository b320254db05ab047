//! Every operation of the wgpu backend against the formula in its documentation, computed here in f64: in the tests on
//! whatever adapter there is, in the check of a GPU on that one.

mod attention;
mod blocks;
mod logprobs;
mod products;
mod sample;

use paddock_engine::Result;
use paddock_engine::backend::wgpu::{Kernels, KvEncoding, Options, Wgpu};
use paddock_engine::backend::{Device, WeightPart, sampling_noise};
use paddock_engine::weights::Encoding;

pub use attention::{
    attention_keeps_documents_apart, cached_attention_equals_full_attention, rope_turns_far_positions_precisely,
};
pub use blocks::every_block_kind_has_ggml_s_values;
pub use logprobs::{
    token_logprobs_are_the_cpu_s, token_logprobs_near_zero_keep_their_digits,
    token_logprobs_of_operands_that_do_not_fit_are_refused, token_logprobs_take_the_memory_of_a_chunk_of_rows,
};
pub use products::{
    a_weight_takes_the_widest_of_its_parts, embed_reads_rows_of_every_encoding,
    linear_and_its_fusions_multiply_every_encoding, operands_that_do_not_fit_are_refused, plain_operations_on_rows,
};
pub use sample::{
    greedy_takes_the_lowest_of_equals_and_penalises_what_it_has_seen, not_a_number_is_an_error,
    rows_are_sampled_as_if_each_were_alone, sample_draws_what_a_sort_would, the_penalty_multiplies_negative_logits,
};

/// Panics where the device computes something else.
pub type Check = fn(&Wgpu) -> Result<()>;

/// All checks, by what they are about.
pub const CHECKS: [(&str, Check); 18] = [
    ("linear and its fusions", linear_and_its_fusions_multiply_every_encoding),
    ("weights of several encodings", a_weight_takes_the_widest_of_its_parts),
    ("every block format of GGUF", every_block_kind_has_ggml_s_values),
    ("embed", embed_reads_rows_of_every_encoding),
    ("norms, relu, add, add_columns, silu_mul, select_rows", plain_operations_on_rows),
    ("rope", rope_turns_far_positions_precisely),
    ("attention", attention_keeps_documents_apart),
    ("rope, cache and attention", cached_attention_equals_full_attention),
    ("token_logprobs", token_logprobs_are_the_cpu_s),
    ("token_logprobs, near zero", token_logprobs_near_zero_keep_their_digits),
    ("token_logprobs, memory", token_logprobs_take_the_memory_of_a_chunk_of_rows),
    ("token_logprobs, operands that do not fit", token_logprobs_of_operands_that_do_not_fit_are_refused),
    ("sample", sample_draws_what_a_sort_would),
    ("sample, several rows", rows_are_sampled_as_if_each_were_alone),
    ("sample, greedy", greedy_takes_the_lowest_of_equals_and_penalises_what_it_has_seen),
    ("sample, negative logits", the_penalty_multiplies_negative_logits),
    ("sample, no numbers", not_a_number_is_an_error),
    ("operands that do not fit", operands_that_do_not_fit_are_refused),
];

/// All the ways to compute: plain WebGPU or with subgroups and f16 where the adapter has them, by shared tiles or alone,
/// with a cache of f32 or f16.
pub fn variants() -> [Options; 4] {
    [
        (true, Kernels::Workgroup, KvEncoding::F32),
        (true, Kernels::Serial, KvEncoding::F16),
        (false, Kernels::Workgroup, KvEncoding::F32),
        (false, Kernels::Serial, KvEncoding::F16),
    ]
    .map(|(portable, kernels, kv)| Options {
        portable,
        kernels: Some(kernels),
        kv: Some(kv),
        ..Options::default()
    })
}

/// f32 sums of a few hundred products of values near 1, in any order.
const TOLERANCE: f64 = 2e-5;

/// Deterministic values in [-1, 1).
fn noise(seed: u32, count: usize) -> Vec<f32> {
    (0..count).map(|i| sampling_noise(seed, 0, i as u32) * 2.0 - 1.0).collect()
}

fn close(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let difference = (f64::from(*got) - expected).abs();
        assert!(difference <= tolerance * expected.abs().max(1.0), "{what}[{i}]: {got}, expected {expected}");
    }
}

fn read(gpu: &Wgpu, x: &<Wgpu as Device>::Tensor) -> Vec<f32> {
    pollster::block_on(gpu.read(x)).expect("a tensor can be read")
}

fn f32_weight(gpu: &Wgpu, rows: usize, cols: usize, values: &[f32]) -> Result<<Wgpu as Device>::Weight> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    weight(gpu, cols, &[(rows, Encoding::F32, bytes)])
}

fn weight(gpu: &Wgpu, cols: usize, parts: &[(usize, Encoding, Vec<u8>)]) -> Result<<Wgpu as Device>::Weight> {
    let list: Vec<_> =
        parts.iter().map(|(rows, encoding, _)| WeightPart { rows: *rows, encoding: *encoding }).collect();
    let mut weight = gpu.create_weight("test", cols, &list)?;
    let mut first = 0;
    for (rows, _, bytes) in parts {
        // In two writes, to see that rows land where they belong.
        let half = rows / 2 * (bytes.len() / rows);
        gpu.write_rows(&mut weight, first, &bytes[..half])?;
        gpu.write_rows(&mut weight, first + rows / 2, &bytes[half..])?;
        first += rows;
    }
    Ok(weight)
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}
