//! The choice of the next token.

use super::Device;
use crate::Result;

/// How the next token is chosen from its logits. The order is transformers': repetition penalty, temperature, top-k,
/// top-p, min-p, then a draw.
///
/// The draw is Gumbel-max with a hash of `(seed, position, token id)` as its noise ([`sampling_noise`]), so every
/// backend draws the same token from the same logits without sorting or a running sum.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy (the other filters then have no effect, the repetition penalty does).
    pub temperature: f32,
    /// Keep this many most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of most probable tokens whose mass reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this probable relative to the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen before; 1 changes nothing (CTRL, section 4.1).
    pub repetition_penalty: f32,
    /// Seed of the draw.
    pub seed: u32,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// PCG's output hash (Jarzynski & Olano 2020, "Hash Functions for GPU Rendering").
pub fn pcg_hash(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// Uniform noise in (0, 1) for `token` at `position`: [`pcg_hash`], chained over the three inputs.
/// `shaders/shared/noise.wgsl` is its twin.
pub fn sampling_noise(seed: u32, position: u32, token: u32) -> f32 {
    let hash = pcg_hash(token ^ pcg_hash(position ^ pcg_hash(seed)));
    // 23 bits, shifted by half a step: never 0 and never 1 in f32.
    ((hash >> 9) as f32 + 0.5) / 8_388_608.0
}

/// A row of logits to choose a token from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRow {
    /// The sampler's slot whose tokens are penalised.
    pub slot: usize,
    /// The token's index in its sequence, which makes the noise of a draw its own.
    pub position: u32,
    /// How the token is chosen.
    pub sampling: Sampling,
}

/// A device that chooses tokens from logits, so that the chosen tokens can stay there as the next input.
pub trait Sample: Device {
    /// For each of a number of slots, the tokens seen so far, which the repetition penalty asks for.
    type Sampler;

    /// A sampler of `slots` slots that have seen none of `vocab` tokens.
    fn sampler(&self, vocab: usize, slots: usize) -> Result<Self::Sampler>;

    /// Makes `ids` the tokens that a slot has seen.
    fn set_seen(&self, sampler: &mut Self::Sampler, slot: usize, ids: &[u32]) -> Result<()>;

    /// Chooses a token from each row of `logits` `[n, vocab]` and counts it as seen: `[n]`. Each of `rows` has a slot of
    /// its own; what is chosen does not depend on the other rows. Ties go to the lower id.
    fn sample(&self, logits: &Self::Tensor, sampler: &mut Self::Sampler, rows: &[SampleRow]) -> Result<Self::Tokens>;

    /// The log-probability of a token in each row of `logits` `[n, vocab]`, before temperature, filters and penalty:
    /// `[n, 1]`. As [`super::Operations::token_logprobs`] of the rows that the logits came from; on the CPU to the bit. The
    /// tokens may be those that the device chose, once [`Device::read_tokens`] has found them to be some.
    fn token_logprobs_of_logits(&self, logits: &Self::Tensor, ids: &Self::Tokens) -> Result<Self::Tensor>;
}
