//! The program: all kernels as one text for one set of formats.

use std::fmt::Write;

use super::formats::{Dtype, Formats};

/// What comes before the kernels.
const COMMON: &str = include_str!("kernels/common.cuh");
/// What only the device's compiler understands.
const DEVICE_ONLY: &str = include_str!("kernels/ptx.cuh");

/// The kernels of all formats: text and names.
const KERNELS: [(&str, &[&str]); 17] = [
    (include_str!("kernels/embed.cu"), &["embed", "embed_adjoint"]),
    (include_str!("kernels/select_rows.cu"), &["select_rows", "select_rows_adjoint"]),
    (include_str!("kernels/rms_norm.cu"), &["rms_norm", "rms_norm_adjoint"]),
    (include_str!("kernels/layer_norm.cu"), &["layer_norm", "layer_norm_adjoint"]),
    (include_str!("kernels/bias.cu"), &["add_bias", "bias_adjoint", "add_parts"]),
    (include_str!("kernels/silu_mul.cu"), &["silu_mul", "silu_mul_adjoint"]),
    (include_str!("kernels/elementwise.cu"), &["add", "relu", "relu_adjoint", "dropout", "narrow", "widen"]),
    (include_str!("kernels/add_columns.cu"), &["add_columns", "add_columns_adjoint"]),
    (include_str!("kernels/rope.cu"), &["rope"]),
    (include_str!("kernels/cache_append.cu"), &["cache_append"]),
    (include_str!("kernels/token_logprobs.cu"), &["token_logprobs", "token_logprobs_adjoint"]),
    (include_str!("kernels/squared_norm.cu"), &["squared_norm", "squared_norm_total"]),
    (include_str!("kernels/adamw.cu"), &["adamw"]),
    (include_str!("kernels/adamw8.cu"), &["adamw8"]),
    (include_str!("kernels/sample.cu"), &["set_seen", "sample"]),
    (include_str!("kernels/attention.cu"), &["attention"]),
    (
        include_str!("kernels/attention_adjoint.cu"),
        &["attention_delta", "attention_query_adjoint", "attention_key_adjoint"],
    ),
];

/// Those that the tensor cores run, on bf16 only.
const TILED: [(&str, &[&str]); 2] = [
    (include_str!("kernels/attention_tiled.cu"), &["attention_tiled_64", "attention_tiled_128"]),
    (
        include_str!("kernels/attention_tiled_adjoint.cu"),
        &[
            "attention_tiled_query_adjoint_64",
            "attention_tiled_query_adjoint_128",
            "attention_tiled_key_adjoint_64",
            "attention_tiled_key_adjoint_128",
        ],
    ),
];

/// Which compiler reads the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// NVRTC.
    Device,
    /// A C++ compiler that emulates the device: it brings its own twin of `kernels/ptx.cuh`.
    Host,
}

fn files(formats: Formats) -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let tiled: &[_] = if formats.values == Dtype::Bf16 { &TILED } else { &[] };
    KERNELS.iter().chain(tiled).copied()
}

/// The text of the program.
pub fn program(formats: Formats, dialect: Dialect) -> String {
    let name = |dtype: Dtype| match dtype {
        Dtype::F32 => "float",
        Dtype::Bf16 => "bf16",
    };
    let mut text = String::from(COMMON);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\ntypedef {} T;\ntypedef {} G;\ntypedef {} M;\n",
        name(formats.values),
        name(formats.gradients),
        name(formats.moments)
    );
    if dialect == Dialect::Device {
        text += DEVICE_ONLY;
    }
    files(formats).for_each(|(kernel, _)| text += kernel);
    text
}

/// The names of the program's kernels.
pub fn kernels(formats: Formats) -> Vec<&'static str> {
    files(formats).flat_map(|(_, names)| names).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_in_the_list() {
        for formats in [Formats::F32, Formats::BF16, Formats::LEAN] {
            let text = program(formats, Dialect::Device);
            let names = kernels(formats);
            // A kernel for each width of head comes out of a macro, which has it once.
            let written = text.matches("KERNEL(").count() - text.matches("#define KERNEL(").count();
            let by_macro = names.iter().filter(|name| name.ends_with("_128")).count();
            assert_eq!(names.len() - by_macro, written);
        }
    }
}
