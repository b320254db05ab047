//! `paddock inspect --plan`: every GPU buffer that a model will need.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use indicatif::{BinaryBytes, HumanCount};
use paddock_engine::backend::wgpu::{DEFAULT_BINDING, KvEncoding, Plan, PlannedBuffer, Purpose, plan};
use paddock_engine::weights::pack::Quantize;
use paddock_engine::weights::{Checkpoint, Encoding, Source, TensorInfo};
use paddock_engine::{Error, ModelConfig};
use serde_json::{Value, json};

use crate::Result;
use crate::files::ModelSource;

/// Longest `config.json` that is read.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Prints the plan of the model at `model`, as one JSON object if `json` says so; `context` is in tokens.
pub(super) fn print(model: &Path, quantize: Option<Quantize>, context: Option<usize>, json: bool) -> Result<()> {
    let (config, tensors, quantize) = pollster::block_on(tensors(model, quantize))?;
    let context = config.context(context)?;
    let encodings: HashMap<&str, Encoding> =
        tensors.iter().map(|tensor| (tensor.name.as_str(), quantize.encoding(tensor, &config))).collect();
    let encoding = |name: &str| encodings.get(name).copied().unwrap_or(Encoding::F32);
    let plan = plan(&config, |param| encoding(&param.name), context, DEFAULT_BINDING)?;
    let mut output = io::stdout().lock();
    if json {
        return Ok(writeln!(output, "{}", described(&plan, &config, quantize, context))?);
    }
    writeln!(
        output,
        "LLaMA, {} parameters, matrices {quantize}, {context} tokens of context",
        HumanCount(config.parameter_count())
    )?;
    write_buffers(&mut output, &plan)?;
    write_totals(&mut output, &plan)
}

/// The plan for programs; sizes are in bytes.
fn described(plan: &Plan, config: &ModelConfig, quantize: Quantize, context: usize) -> Value {
    let buffer = |buffer: &PlannedBuffer| json!({ "label": buffer.label, "purpose": purpose(buffer.purpose), "bytes": buffer.bytes });
    let cache = match plan.kv {
        KvEncoding::F32 => "f32",
        KvEncoding::F16 => "f16",
    };
    json!({
        "parameters": config.parameter_count(),
        "quantize": quantize.to_string(),
        "context": context,
        "buffers": plan.buffers.iter().map(buffer).collect::<Vec<_>>(),
        "weights": plan.total(Purpose::Weights),
        "cache": plan.total(Purpose::KvCache),
        "cache_encoding": cache,
        "activations": plan.total(Purpose::Activations),
        "read_back": plan.total(Purpose::Staging),
        "total": plan.bytes(),
        "largest_binding": plan.largest_binding(),
    })
}

/// The configuration and the tensors of the model, and how they will be stored. With a `config.json` alone there are no
/// tensors to keep unchanged, so the default is 4 bits.
async fn tensors(model: &Path, quantize: Option<Quantize>) -> Result<(ModelConfig, Vec<TensorInfo>, Quantize)> {
    let source = ModelSource::open(model)?;
    let names = source.list();
    if !names.iter().any(|name| name == "config.json") || names.iter().any(|name| is_weights(name)) {
        let checkpoint = Checkpoint::open(source).await?;
        let tensors = checkpoint.tensors().cloned().collect();
        return Ok((checkpoint.config().clone(), tensors, quantize.unwrap_or_default()));
    }
    let quantize = quantize.unwrap_or(Quantize::Q4);
    if quantize == Quantize::Keep {
        let problem = "there are no weights beside config.json to keep as they are; choose --quantize q4, q8 or f16";
        return Err(Error::Request(problem.to_string()).into());
    }
    let file = source.read_all("config.json", CONFIG_LIMIT).await?.unwrap_or_default();
    let json: Value = paddock_engine::json::parse(&file)
        .map_err(|error| Error::format("config.json", format!("it is not valid JSON: {error}")))?;
    let config = ModelConfig::from_json(&json, None)?;
    let params = config.params().into_iter();
    let tensors = params.map(|param| TensorInfo { name: param.name, shape: param.shape, encoding: Encoding::F16 });
    let tensors = tensors.collect();
    Ok((config, tensors, quantize))
}

/// PyTorch's files are listed as the safetensors file that they are read as.
fn is_weights(name: &str) -> bool {
    name == "manifest.json" || name.ends_with(".safetensors") || name.ends_with(".gguf")
}

fn write_buffers(output: &mut impl Write, plan: &Plan) -> Result<()> {
    let width = plan.buffers.iter().map(|buffer| buffer.label.len()).max().unwrap_or(0);
    writeln!(output, "{:width$}  {:11}  {:>16}", "buffer, bound whole", "for", "bytes")?;
    for buffer in &plan.buffers {
        writeln!(
            output,
            "{:width$}  {:11}  {:>16}",
            buffer.label,
            purpose(buffer.purpose),
            HumanCount(buffer.bytes).to_string()
        )?;
    }
    Ok(())
}

fn write_totals(output: &mut impl Write, plan: &Plan) -> Result<()> {
    let kv = match plan.kv {
        KvEncoding::F32 => " in f32",
        KvEncoding::F16 => " in f16",
    };
    for (kind, note) in
        [(Purpose::Weights, ""), (Purpose::KvCache, kv), (Purpose::Activations, ""), (Purpose::Staging, "")]
    {
        let total = plan.total(kind);
        writeln!(output, "{:16}{:>16}  {}{note}", purpose(kind), HumanCount(total).to_string(), BinaryBytes(total))?;
    }
    let (total, largest) = (plan.bytes(), plan.largest_binding());
    writeln!(
        output,
        "{:16}{:>16}  {} in {} buffers",
        "total",
        HumanCount(total).to_string(),
        BinaryBytes(total),
        plan.buffers.len()
    )?;
    writeln!(output, "{:16}{:>16}  {}", "largest binding", HumanCount(largest).to_string(), BinaryBytes(largest))?;
    Ok(())
}

fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Weights => "weights",
        Purpose::KvCache => "cache",
        Purpose::Activations => "activations",
        Purpose::Staging => "read back",
    }
}
