//! Every operation of the wgpu backend against the formula in its documentation (support/wgpu), with all the kernel
//! variants that the adapter can run.

use paddock_engine::backend::{Device, Wgpu};
use paddock_tests::wgpu::{self, Check};

/// Runs a check on each variant of the kernels; skips aloud without an adapter.
fn on_devices(check: Check) {
    for options in wgpu::variants() {
        match pollster::block_on(Wgpu::new(options)) {
            Ok(gpu) => {
                check(&gpu).unwrap_or_else(|error| panic!("{error} ({:?}, {options:?})", gpu.device()));
            }
            Err(error) => paddock_tests::skip("gpu", &error.to_string()),
        }
    }
}

#[test]
fn linear_and_its_fusions_multiply_every_encoding() {
    on_devices(wgpu::linear_and_its_fusions_multiply_every_encoding);
}

#[test]
fn a_weight_takes_the_widest_of_its_parts() {
    on_devices(wgpu::a_weight_takes_the_widest_of_its_parts);
}

#[test]
fn every_block_kind_has_ggml_s_values() {
    on_devices(wgpu::every_block_kind_has_ggml_s_values);
}

#[test]
fn embed_reads_rows_of_every_encoding() {
    on_devices(wgpu::embed_reads_rows_of_every_encoding);
}

#[test]
fn plain_operations_on_rows() {
    on_devices(wgpu::plain_operations_on_rows);
}

#[test]
fn rope_turns_far_positions_precisely() {
    on_devices(wgpu::rope_turns_far_positions_precisely);
}

#[test]
fn attention_keeps_documents_apart() {
    on_devices(wgpu::attention_keeps_documents_apart);
}

#[test]
fn cached_attention_equals_full_attention() {
    on_devices(wgpu::cached_attention_equals_full_attention);
}

#[test]
fn token_logprobs_are_the_cpu_s() {
    on_devices(wgpu::token_logprobs_are_the_cpu_s);
}

#[test]
fn token_logprobs_near_zero_keep_their_digits() {
    on_devices(wgpu::token_logprobs_near_zero_keep_their_digits);
}

#[test]
fn token_logprobs_take_the_memory_of_a_chunk_of_rows() {
    on_devices(wgpu::token_logprobs_take_the_memory_of_a_chunk_of_rows);
}

#[test]
fn token_logprobs_of_operands_that_do_not_fit_are_refused() {
    on_devices(wgpu::token_logprobs_of_operands_that_do_not_fit_are_refused);
}

#[test]
fn sample_draws_what_a_sort_would() {
    on_devices(wgpu::sample_draws_what_a_sort_would);
}

#[test]
fn rows_are_sampled_as_if_each_were_alone() {
    on_devices(wgpu::rows_are_sampled_as_if_each_were_alone);
}

#[test]
fn greedy_takes_the_lowest_of_equals_and_penalises_what_it_has_seen() {
    on_devices(wgpu::greedy_takes_the_lowest_of_equals_and_penalises_what_it_has_seen);
}

#[test]
fn the_penalty_multiplies_negative_logits() {
    on_devices(wgpu::the_penalty_multiplies_negative_logits);
}

#[test]
fn not_a_number_is_an_error() {
    on_devices(wgpu::not_a_number_is_an_error);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    on_devices(wgpu::operands_that_do_not_fit_are_refused);
}
