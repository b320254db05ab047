//! The texts of the shaders: files of `shaders/`, one an op. A variant of one is the file with the shared files that it
//! needs and a few constants in front.

use super::encoding::{KvEncoding, WeightEncoding};

/// Words of a dispatch's parameters.
pub(super) const PARAMS: usize = 8;

/// The parameters of a dispatch: the words of the shader's `Params`, the rest zero.
pub(super) type Params = [u32; PARAMS];

/// Parameters that begin with `words`.
pub(super) fn params<const N: usize>(words: [u32; N]) -> Params {
    let mut params = Params::default();
    params.iter_mut().zip(words).for_each(|(param, word)| *param = word);
    params
}

macro_rules! shader {
    ($name:literal) => {
        include_str!(concat!("../../../../shaders/", $name, ".wgsl"))
    };
}

macro_rules! ops {
    ($($op:ident $name:literal $access:literal [$($shared:literal)*])*) => {
        /// A file of `shaders/`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum Op { $($op),* }

        impl Op {
            #[cfg(test)]
            pub(super) const ALL: &[Op] = &[$(Op::$op),*];

            pub(super) fn name(self) -> &'static str {
                match self { $(Op::$op => $name),* }
            }

            /// The file, with the files of `shaders/shared/` that it needs whatever the variant.
            fn source(self) -> &'static str {
                match self {
                    $(Op::$op => concat!($(include_str!(concat!("../../../../shaders/shared/", $shared, ".wgsl")),)* shader!($name))),*
                }
            }

            /// One letter a binding from 1 on: `r` for read, `w` for read and write, `-` for none.
            pub(super) fn access(self) -> &'static str {
                match self { $(Op::$op => $access),* }
            }
        }
    };
}

ops! {
    Embed "embed" "rrrw" ["input_none"]
    RmsNorm "rms_norm" "rrw" ["total"]
    LayerNorm "layer_norm" "rrrw" ["total"]
    Linear "linear" "rrrrw" ["product" "weight_row" "input"]
    LinearAdd "linear_add" "rrrrwr" ["product" "weight_row" "input"]
    RmsNormLinear "rms_norm_linear" "rrrrwr" ["product" "weight_row" "input_rms_norm"]
    RmsNormGateUp "rms_norm_gate_up" "rrrrwr" ["product" "input_rms_norm"]
    LinearBlocked "linear_blocked" "rrrrw" ["product" "input_none"]
    LinearTiled "linear_tiled" "rrrrw" ["product" "input_none"]
    Relu "relu" "rw" []
    SiluMul "silu_mul" "rw" []
    Add "add" "rrw" []
    AddColumns "add_columns" "rrw" []
    SelectRows "select_rows" "rrw" []
    Rope "rope" "rrrw" ["rotary"]
    CacheAppend "cache_append" "rr-ww" []
    CacheFork "cache_fork" "ww" []
    AttentionCached "attention_cached" "rr-www" ["attention"]
    AttentionTiled "attention_tiled" "rr-www" ["attention"]
    RopeAttentionCached "rope_attention_cached" "rrrwww" ["attention" "rotary"]
    AttentionMerge "attention_merge" "rw" []
    TokenLogprobs "token_logprobs" "rrw" ["total" "log"]
    SetSeen "set_seen" "rw" []
    SampleScores "sample_scores" "rrrww" ["best" "sampling"]
    SampleThreshold "sample_threshold" "rrrw" ["best" "sampling"]
    SampleDraw "sample_draw" "rrrw" ["best" "sampling" "log" "noise"]
    SamplePick "sample_pick" "rrww" ["best" "sampling"]
}

/// How the invocations of a workgroup share the rows of a matrix-vector product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lanes {
    /// 64 invocations, each with four rows of its own.
    Serial,
    /// 4 × 16 invocations; 16 share four rows.
    Portable,
    /// Subgroups of this size share four rows.
    Subgroup(u32),
}

impl Lanes {
    /// Invocations along the rows, and along the columns.
    fn shape(self) -> (u32, u32) {
        match self {
            Lanes::Serial => (64, 1),
            Lanes::Portable => (4, 16),
            Lanes::Subgroup(size) => (64 / size, size),
        }
    }

    /// Rows that a workgroup computes.
    pub(super) fn rows(self) -> u32 {
        self.shape().0 * 4
    }

    fn constants(self) -> String {
        let (rows, columns) = self.shape();
        format!("const ROW_LANES: u32 = {rows}u;\nconst K_LANES: u32 = {columns}u;\n")
    }

    fn reduce(self) -> &'static str {
        match self {
            Lanes::Serial => shader!("shared/reduce_serial"),
            Lanes::Portable => shader!("shared/reduce_portable"),
            Lanes::Subgroup(_) => shader!("shared/reduce_subgroup"),
        }
    }
}

/// An op for one kind of operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    pub(super) op: Op,
    pub(super) weight: Option<WeightEncoding>,
    pub(super) lanes: Option<Lanes>,
    pub(super) kv: Option<KvEncoding>,
    pub(super) head_dim: u32,
    /// With shader-f16.
    pub(super) half: bool,
}

impl From<Op> for Variant {
    fn from(op: Op) -> Self {
        Self { op, weight: None, lanes: None, kv: None, head_dim: 0, half: false }
    }
}

impl Variant {
    /// The op on weights of an encoding.
    pub(super) fn on_weight(op: Op, weight: WeightEncoding, lanes: Option<Lanes>) -> Self {
        Self { weight: Some(weight), lanes, ..op.into() }
    }

    /// The op on a cache of an encoding.
    pub(super) fn on_cache(op: Op, kv: KvEncoding, head_dim: usize) -> Self {
        Self { kv: Some(kv), head_dim: head_dim as u32, ..op.into() }
    }

    /// The variant for a device with shader-f16, where f16 operands need no unpacking.
    pub(super) fn with_half(self) -> Self {
        Self { half: self.weight == Some(WeightEncoding::F16) || self.kv == Some(KvEncoding::F16), ..self }
    }

    /// The whole WGSL text.
    pub(super) fn compose(self) -> String {
        let mut text = String::new();
        if self.half {
            text.push_str("enable f16;\n");
        }
        if self.head_dim > 0 {
            text.push_str(&format!("const HEAD_DIM: u32 = {}u;\n", self.head_dim));
        }
        text.push_str(match self.weight {
            Some(WeightEncoding::F32) => shader!("shared/weight_f32"),
            Some(WeightEncoding::F16) if self.half => {
                concat!(shader!("shared/weight_half"), shader!("shared/weight_16_bits"))
            }
            Some(WeightEncoding::F16) => concat!(shader!("shared/weight_f16"), shader!("shared/weight_16_bits")),
            Some(WeightEncoding::BF16) => concat!(shader!("shared/weight_bf16"), shader!("shared/weight_16_bits")),
            Some(WeightEncoding::Q8) => shader!("shared/weight_q8"),
            Some(WeightEncoding::Q4) => shader!("shared/weight_q4"),
            None => "",
        });
        if self.weight.is_some() {
            text.push_str(shader!("shared/weight"));
        }
        if let Some(lanes) = self.lanes {
            text.push_str(&lanes.constants());
            text.push_str(shader!("shared/dots"));
            text.push_str(lanes.reduce());
        }
        text.push_str(match self.kv {
            Some(KvEncoding::F32) => shader!("shared/kv_f32"),
            Some(KvEncoding::F16) if self.half => shader!("shared/kv_half"),
            Some(KvEncoding::F16) => shader!("shared/kv_f16"),
            None => "",
        });
        if self.kv.is_some() {
            text.push_str(shader!("shared/kv"));
        }
        text.push_str(self.op.source());
        text
    }
}
