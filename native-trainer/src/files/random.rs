//! Untrained models: random weights in the shape of a configuration.

use std::fs;
use std::ops::Range;
use std::path::Path;

use paddock_engine::ModelConfig;
use paddock_engine::backend::pcg_hash;
use paddock_engine::model::LoadProgress;
use paddock_engine::weights::quantize;
use serde_json::{Value, json};

use super::convert::Written;
use super::export::{Export, Rows, Stored, config_file, kept_files};
use super::{Dtype, FolderSource};
use crate::{Error, Result};

/// Standard deviation of weights where the configuration has no `initializer_range` (transformers' default).
const INITIALIZER_RANGE: f64 = 0.02;

/// Writes a model with random weights as the folder `output`, as the `config.json` in `folder` describes it, with the
/// tokenizer beside that file. As in transformers, matrices are drawn from a normal distribution with the
/// configuration's `initializer_range`, gains are 1 and biases 0. The same `seed` gives the same bytes.
///
/// # Errors
/// When the configuration is not of a model that Paddock knows, `output` exists, or the disk refuses.
pub fn random(
    folder: &Path,
    output: &Path,
    dtype: Dtype,
    seed: u32,
    threads: usize,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Written> {
    let path = folder.join("config.json");
    let text = fs::read(&path).map_err(Error::path("read", &path))?;
    let config: Value = paddock_engine::json::parse(&text)
        .map_err(|error| Error::Request(format!("{}: it is not valid JSON: {error}", path.display())))?;
    let params = ModelConfig::from_json(&config, None)?.params();
    let deviation = config["initializer_range"].as_f64().unwrap_or(INITIALIZER_RANGE) as f32;
    let encoding = dtype.encoding();
    let tensors: Vec<Stored> = params.into_iter().map(|param| Stored { param, encoding }).collect();
    let key = json!({ "random": config, "dtype": dtype, "seed": seed }).to_string();
    let export = Export { output: output.to_path_buf(), tensors, key, threads };
    let rows = || Ok(RandomRows { tensors: &export.tensors, seed, deviation });
    let exported = export.run(&rows, progress)?;
    let mut files = kept_files(&FolderSource::open(folder)?)?;
    files.push(config_file(config, encoding));
    exported.commit(&files)?;
    Ok(Written { bytes: export.tensors.iter().map(Stored::bytes).sum(), notes: Vec::new() })
}

struct RandomRows<'a> {
    tensors: &'a [Stored],
    seed: u32,
    deviation: f32,
}

impl Rows for RandomRows<'_> {
    fn rows(&mut self, tensor: usize, rows: Range<usize>) -> Result<Vec<u8>> {
        let stored = &self.tensors[tensor];
        let [_, columns] = stored.param.shape;
        let all = rows.start * columns..rows.end * columns;
        let values: Vec<f32> = match kind(&stored.param.name) {
            Kind::Gain => vec![1.0; all.len()],
            Kind::Bias => vec![0.0; all.len()],
            Kind::Matrix => {
                let seed = pcg_hash(tensor as u32 ^ pcg_hash(self.seed));
                let (pairs, lead) = (all.start as u64 / 2..all.end.div_ceil(2) as u64, all.start % 2);
                let draws = pairs.flat_map(|pair| normal(seed, pair));
                draws.skip(lead).take(all.len()).map(|draw| self.deviation * draw).collect()
            }
        };
        quantize(stored.encoding, &values).map_err(|error| Error::Request(format!("{}: {error}", stored.param.name)))
    }

    fn finish(&mut self, _: usize) -> Result<Value> {
        Ok(Value::Null)
    }
}

enum Kind {
    Matrix,
    Gain,
    Bias,
}

fn kind(name: &str) -> Kind {
    match name {
        _ if name.ends_with(".bias") => Kind::Bias,
        _ if name.contains("norm") => Kind::Gain,
        _ => Kind::Matrix,
    }
}

/// Two draws of a standard normal distribution (Box and Muller 1958).
fn normal(seed: u32, pair: u64) -> [f32; 2] {
    let word = |part: u32| pcg_hash(pair as u32 ^ pcg_hash((pair >> 32) as u32 ^ pcg_hash(seed ^ part)));
    // In (0, 1], so that the logarithm is finite.
    let uniform = |word: u32| ((word >> 8) + 1) as f32 / (1 << 24) as f32;
    let radius = (-2.0 * uniform(word(0)).ln()).sqrt();
    let (sine, cosine) = (std::f32::consts::TAU * uniform(word(1))).sin_cos();
    [radius * cosine, radius * sine]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_of_a_normal_distribution() {
        const COUNT: u64 = 200_000;
        let draws: Vec<f64> = (0..COUNT / 2).flat_map(|pair| normal(7, pair)).map(f64::from).collect();
        let moment = |power: i32| draws.iter().map(|draw| draw.powi(power)).sum::<f64>() / COUNT as f64;
        // The moments are 0, 1, 0 and 3; the bounds are five standard deviations of their estimates.
        let bound = |variance: f64| 5.0 * (variance / COUNT as f64).sqrt();
        assert!(moment(1).abs() < bound(1.0), "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < bound(2.0), "{}", moment(2));
        assert!(moment(3).abs() < bound(15.0), "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < bound(96.0), "{}", moment(4));
        // Neighbours are uncorrelated.
        let product = draws.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / COUNT as f64;
        assert!(product.abs() < bound(1.0), "{product}");
    }
}
