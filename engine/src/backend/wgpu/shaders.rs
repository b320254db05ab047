//! The texts of the shaders: files of `shaders/`, one an op. A variant of one is the file with a few shared files and
//! constants in front.

use super::kv_cache::KvEncoding;
use super::weight::Kind;

macro_rules! shader {
    ($name:literal) => {
        include_str!(concat!("../../../../shaders/", $name, ".wgsl"))
    };
}

macro_rules! ops {
    ($($op:ident $name:literal $access:literal)*) => {
        /// A file of `shaders/`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum Op { $($op),* }

        impl Op {
            #[cfg(test)]
            pub(super) const ALL: &[Op] = &[$(Op::$op),*];

            pub(super) fn name(self) -> &'static str {
                match self { $(Op::$op => $name),* }
            }

            fn source(self) -> &'static str {
                match self { $(Op::$op => shader!($name)),* }
            }

            /// One letter a binding from 1 on: `r` for read, `w` for read and write, `-` for none.
            pub(super) fn access(self) -> &'static str {
                match self { $(Op::$op => $access),* }
            }
        }
    };
}

ops! {
    Embed "embed" "rrrw"
    RmsNorm "rms_norm" "rrw"
    LayerNorm "layer_norm" "rrrw"
    Linear "linear" "rrrrw"
    LinearAdd "linear_add" "rrrrrw"
    RmsNormLinear "rms_norm_linear" "rrrrrw"
    RmsNormGateUp "rms_norm_gate_up" "rrrrrw"
    LinearBlocked "linear_blocked" "rrrrw"
    LinearTiled "linear_tiled" "rrrrw"
    Relu "relu" "rw"
    SiluMul "silu_mul" "rw"
    Add "add" "rrw"
    AddColumns "add_columns" "rrw"
    SelectRows "select_rows" "rrw"
    Rope "rope" "rrrw"
    CacheAppend "cache_append" "rr-ww"
    CacheFork "cache_fork" "ww"
    AttentionCached "attention_cached" "rr-www"
    AttentionTiled "attention_tiled" "rr-www"
    RopeAttentionCached "rope_attention_cached" "rrrwww"
    AttentionMerge "attention_merge" "rw"
    MarkSeen "mark_seen" "rw"
    SampleScores "sample_scores" "rrww"
    SampleThreshold "sample_threshold" "rrw"
    SampleDraw "sample_draw" "rrw"
    SamplePick "sample_pick" "rww"
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
    pub(super) weight: Option<Kind>,
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
    /// The op on weights of a kind.
    pub(super) fn on_weight(op: Op, kind: Kind, lanes: Option<Lanes>) -> Self {
        Self { weight: Some(kind), lanes, ..op.into() }
    }

    /// The op on a cache of an encoding.
    pub(super) fn on_cache(op: Op, kv: KvEncoding, head_dim: usize) -> Self {
        Self { kv: Some(kv), head_dim: head_dim as u32, ..op.into() }
    }

    /// The variant for a device with shader-f16, where f16 operands need no unpacking.
    pub(super) fn with_half(self) -> Self {
        Self { half: self.weight == Some(Kind::F16) || self.kv == Some(KvEncoding::F16), ..self }
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
            Some(Kind::F32) => shader!("shared/weight_f32"),
            Some(Kind::F16) if self.half => shader!("shared/weight_half"),
            Some(Kind::F16) => shader!("shared/weight_f16"),
            Some(Kind::BF16) => shader!("shared/weight_bf16"),
            Some(Kind::Q8) => shader!("shared/weight_q8"),
            Some(Kind::Q4) => shader!("shared/weight_q4"),
            None => "",
        });
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
        text.push_str(match self.op {
            Op::Rope | Op::RopeAttentionCached => shader!("shared/rotary"),
            Op::SampleScores | Op::SampleThreshold | Op::SamplePick => shader!("shared/best"),
            Op::SampleDraw => concat!(shader!("shared/best"), shader!("shared/noise")),
            _ => "",
        });
        text.push_str(self.op.source());
        text
    }
}
