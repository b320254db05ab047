//! The rotary factors of a GGUF file as the scaling of Llama 3 that they were computed from.
//!
//! llama.cpp's converter (`convert_hf_to_gguf.py`, `generate_extra_tensors`) writes the divisors of the frequencies that
//! transformers' rule `llama3` gives. The divisor `d` of a frequency between the kept and the divided ones satisfies
//! `1/d = (1 − s)/factor + s`, where `s = (original / wavelength − low) / (high − low)`.

use std::f64::consts::TAU;

use paddock_engine::ModelConfig;
use paddock_engine::config::RopeScaling;

/// Largest relative difference between a file's factors and those of the rule. Factors are rounded to f32.
const TOLERANCE: f64 = 1e-5;
/// `high_freq_factor` of Llama 3.1 to 3.3, where the factors leave it open.
const HIGH: f64 = 4.0;

/// The scaling of `config`: its own, or Llama 3's where the checkpoint came with that rule's factors. `None` when its factors
/// follow another rule.
pub(super) fn llama3_scaling(config: &ModelConfig) -> Option<RopeScaling> {
    let Some(factors) = &config.rope_factors else { return Some(config.rope_scaling) };
    let plain = ModelConfig { rope_factors: None, rope_scaling: RopeScaling::Default, ..config.clone() };
    let waves: Vec<f64> = plain.inverse_frequencies().into_iter().map(|frequency| TAU / f64::from(frequency)).collect();
    let points: Vec<(f64, f64)> = waves.iter().copied().zip(factors.iter().map(|factor| f64::from(*factor))).collect();
    let factor = points.iter().map(|(_, divisor)| *divisor).fold(1.0, f64::max);
    if points.iter().all(|(_, divisor)| *divisor == 1.0) {
        return Some(RopeScaling::Default);
    }
    let fits = |(original, high): (f64, f64)| {
        let scaling = RopeScaling::Llama3 {
            factor: factor as f32,
            low_freq_factor: 1.0,
            high_freq_factor: high as f32,
            original_max_position_embeddings: original as f32,
        };
        let scaled = ModelConfig { rope_scaling: scaling, ..plain.clone() };
        let divided = scaled.inverse_frequencies().into_iter().zip(plain.inverse_frequencies()).zip(&points);
        let near = |((scaled, plain), (_, divisor)): ((f32, f32), &(f64, f64))| {
            (f64::from(plain) / f64::from(scaled) / divisor - 1.0).abs() < TOLERANCE
        };
        divided.into_iter().all(near).then_some(scaling)
    };
    candidates(&points, factor).into_iter().find_map(fits)
}

/// Original context and `high_freq_factor` that the points `(wavelength, divisor)` suggest, whole numbers first; the
/// `low_freq_factor` is 1, to which the others are relative.
fn candidates(points: &[(f64, f64)], factor: f64) -> Vec<(f64, f64)> {
    // (1 / wavelength, s) of the frequencies between the kept and the divided ones.
    let between: Vec<(f64, f64)> = points
        .iter()
        .filter(|(_, divisor)| *divisor > 1.0 && *divisor < factor)
        .map(|(wave, divisor)| (1.0 / wave, (1.0 / divisor - 1.0 / factor) / (1.0 - 1.0 / factor)))
        .collect();
    let mut found = Vec::new();
    match between.as_slice() {
        [] => {
            let kept = points.iter().filter(|(_, divisor)| *divisor == 1.0).map(|(wave, _)| *wave).fold(0.0, f64::max);
            let divided = points.iter().filter(|(_, divisor)| *divisor > 1.0).map(|(wave, _)| *wave);
            let divided = divided.fold(f64::INFINITY, f64::min);
            // Any context between these gives the same factors.
            found.push(((kept * HIGH * divided).sqrt(), HIGH));
        }
        [(inverse, smooth)] => found.push(((smooth * (HIGH - 1.0) + 1.0) / inverse, HIGH)),
        [(first, smooth), .., (last, other)] => {
            let slope = (smooth - other) / (first - last);
            // s = slope / wavelength − 1 / (high − 1)
            let width = 1.0 / (slope * first - smooth);
            found.push((slope * width, width + 1.0));
        }
    }
    let whole: Vec<_> = found.iter().map(|(original, high)| (original.round(), high.round())).collect();
    whole.into_iter().chain(found).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with_factors(theta: f32, head_dim: usize, factors: Vec<f32>) -> ModelConfig {
        let json = json!({
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 1, "head_dim": head_dim, "vocab_size": 9, "rope_theta": theta,
        });
        ModelConfig { rope_factors: Some(factors), ..ModelConfig::from_json(&json, None).unwrap() }
    }

    /// As llama.cpp's converter computes them (in Python's floats, then f32).
    fn converter(theta: f64, head_dim: usize, factor: f64, low: f64, high: f64, original: f64) -> Vec<f32> {
        let frequency = |i: usize| 1.0 / theta.powf(2.0 * i as f64 / head_dim as f64);
        (0..head_dim / 2)
            .map(|i| {
                let wave = TAU / frequency(i);
                if wave < original / high {
                    1.0
                } else if wave > original / low {
                    factor as f32
                } else {
                    let smooth = (original / wave - low) / (high - low);
                    (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
                }
            })
            .collect()
    }

    #[test]
    fn the_published_scalings_are_found_again() {
        for (head_dim, factor, high, original) in
            [(128, 8.0, 4.0, 8192.0), (64, 32.0, 4.0, 8192.0), (128, 16.0, 2.0, 4096.0), (8, 8.0, 4.0, 8192.0)]
        {
            let factors = converter(500_000.0, head_dim, factor, 1.0, high, original);
            let config = with_factors(500_000.0, head_dim, factors.clone());
            let Some(RopeScaling::Llama3 { factor: found, high_freq_factor, original_max_position_embeddings, .. }) =
                llama3_scaling(&config)
            else {
                panic!("no scaling found for {factors:?}");
            };
            assert_eq!(f64::from(found), factor);
            if head_dim > 8 {
                assert_eq!(f64::from(high_freq_factor), high);
                assert_eq!(f64::from(original_max_position_embeddings), original);
            }
        }
    }

    #[test]
    fn other_factors_are_not_taken_for_llama_3_s() {
        assert_eq!(llama3_scaling(&with_factors(1e4, 8, vec![1.0, 3.0, 2.0, 8.0])), None);
        assert_eq!(llama3_scaling(&with_factors(1e4, 8, vec![1.0; 4])), Some(RopeScaling::Default));
        // A file with a rule of its own: the context is no whole number.
        let found = llama3_scaling(&with_factors(1e4, 8, vec![1.0, 1.0, 2.0, 8.0]));
        assert!(
            matches!(found, Some(RopeScaling::Llama3 { original_max_position_embeddings, .. })
            if (original_max_position_embeddings - 1436.157).abs() < 0.01),
            "{found:?}"
        );
    }
}
