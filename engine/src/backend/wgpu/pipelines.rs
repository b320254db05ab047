//! Shaders are files of `shaders/`, one an op; a variant of one is the file with a few shared files and constants in
//! front. Pipelines and bind groups are made at first use and kept.

use std::collections::{BTreeSet, HashMap};

use super::KvEncoding;
use super::buffers::Buffer;
use super::device::Context;
use super::frame::PARAMS;
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

            fn name(self) -> &'static str {
                match self { $(Op::$op => $name),* }
            }

            fn source(self) -> &'static str {
                match self { $(Op::$op => shader!($name)),* }
            }

            /// One letter a binding from 1 on: `r` for read, `w` for read and write, `-` for none.
            fn access(self) -> &'static str {
                match self { $(Op::$op => $access),* }
            }
        }
    };
}

ops! {
    Embed "embed" "rrrw"
    RmsNorm "rms_norm" "rrw"
    Linear "linear" "rrrrw"
    LinearAdd "linear_add" "rrrrrw"
    RmsNormLinear "rms_norm_linear" "rrrrrw"
    RmsNormGateUp "rms_norm_gate_up" "rrrrrw"
    LinearBlocked "linear_blocked" "rrrrw"
    LinearTiled "linear_tiled" "rrrrw"
    SiluMul "silu_mul" "rw"
    Add "add" "rrw"
    SelectRows "select_rows" "rrw"
    Rope "rope" "rrrw"
    CacheAppend "cache_append" "rr-ww"
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
}

impl From<Op> for Variant {
    fn from(op: Op) -> Self {
        Self { op, weight: None, lanes: None, kv: None, head_dim: 0 }
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

    /// The whole WGSL text.
    pub(super) fn compose(self) -> String {
        let mut text = String::new();
        if self.head_dim > 0 {
            text.push_str(&format!("const HEAD_DIM: u32 = {}u;\n", self.head_dim));
        }
        text.push_str(match self.weight {
            Some(Kind::F32) => shader!("shared/weight_f32"),
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

/// Most bindings of an op, the parameters not counted: what plain WebGPU promises.
const BINDINGS: usize = 8;

struct Pipeline {
    raw: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// Pipelines and bind groups made so far.
#[derive(Default)]
pub(super) struct Pipelines {
    pipelines: HashMap<Variant, Pipeline>,
    bind_groups: HashMap<(Variant, [u64; BINDINGS]), wgpu::BindGroup>,
}

impl Pipelines {
    /// The pipeline of `variant` and its bind group for `buffers`.
    pub(super) fn get(
        &mut self,
        context: &Context,
        variant: Variant,
        params: &wgpu::Buffer,
        buffers: &[&Buffer],
    ) -> (wgpu::ComputePipeline, wgpu::BindGroup) {
        let pipeline = self.pipelines.entry(variant).or_insert_with(|| create(&context.device, variant));
        let mut ids = [u64::MAX; BINDINGS];
        for (id, buffer) in ids.iter_mut().zip(buffers) {
            *id = buffer.id();
        }
        let bind_group = self.bind_groups.entry((variant, ids)).or_insert_with(|| {
            let params = wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: params,
                    offset: 0,
                    size: wgpu::BufferSize::new(4 * PARAMS as u64),
                }),
            };
            let bound = bindings(variant.op).zip(buffers).map(|((binding, _), buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.raw().as_entire_binding(),
            });
            context.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(variant.op.name()),
                layout: &pipeline.layout,
                entries: &std::iter::once(params).chain(bound).collect::<Vec<_>>(),
            })
        });
        (pipeline.raw.clone(), bind_group.clone())
    }

    /// Drops the bind groups of buffers that are gone.
    pub(super) fn forget(&mut self, gone: &BTreeSet<u64>) {
        if !gone.is_empty() {
            self.bind_groups.retain(|(_, ids), _| ids.iter().all(|id| !gone.contains(id)));
        }
    }

    /// Number of bind groups alive.
    pub(super) fn bind_groups(&self) -> usize {
        self.bind_groups.len()
    }
}

/// Bindings from 1 on, and whether each is written.
fn bindings(op: Op) -> impl Iterator<Item = (u32, bool)> {
    (1..)
        .zip(op.access().bytes())
        .filter(|(_, access)| *access != b'-')
        .map(|(binding, access)| (binding, access == b'w'))
}

fn create(device: &wgpu::Device, variant: Variant) -> Pipeline {
    let label = Some(variant.op.name());
    let entry = |binding, ty, has_dynamic_offset, min_binding_size| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
        count: None,
    };
    let params = entry(0, wgpu::BufferBindingType::Uniform, true, wgpu::BufferSize::new(4 * PARAMS as u64));
    let storage = bindings(variant.op)
        .map(|(binding, write)| entry(binding, wgpu::BufferBindingType::Storage { read_only: !write }, false, None));
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label,
        entries: &std::iter::once(params).chain(storage).collect::<Vec<_>>(),
    });
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label,
        source: wgpu::ShaderSource::Wgsl(variant.compose().into()),
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            // Every kernel writes its workgroup memory before it reads it.
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    });
    Pipeline { raw, layout }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::wgpu::{Options, Wgpu};

    const KINDS: [Kind; 5] = [Kind::F32, Kind::F16, Kind::BF16, Kind::Q8, Kind::Q4];

    /// Every text that a device without subgroups, or with ones of `subgroup`, can ask for.
    fn variants(op: Op, subgroup: Option<u32>) -> Vec<Variant> {
        let lanes =
            || [Some(Lanes::Serial), Some(Lanes::Portable), subgroup.map(Lanes::Subgroup)].into_iter().flatten();
        match op {
            Op::Linear | Op::LinearAdd | Op::RmsNormLinear | Op::RmsNormGateUp => {
                KINDS.iter().flat_map(|kind| lanes().map(|lanes| Variant::on_weight(op, *kind, Some(lanes)))).collect()
            }
            Op::LinearBlocked | Op::LinearTiled | Op::Embed => {
                KINDS.iter().map(|kind| Variant::on_weight(op, *kind, None)).collect()
            }
            Op::CacheAppend => [KvEncoding::F32, KvEncoding::F16].map(|kv| Variant::on_cache(op, kv, 0)).into(),
            Op::AttentionCached | Op::AttentionTiled | Op::RopeAttentionCached => [KvEncoding::F32, KvEncoding::F16]
                .iter()
                .flat_map(|kv| [8, 64, 80, 128].map(|head_dim| Variant::on_cache(op, *kv, head_dim)))
                .collect(),
            Op::AttentionMerge => vec![Variant { head_dim: 64, ..op.into() }],
            _ => vec![op.into()],
        }
    }

    #[test]
    fn every_variant_is_valid_and_keeps_to_the_promised_limits() {
        for portable in [true, false] {
            let gpu = match pollster::block_on(Wgpu::new(Options { portable, ..Options::default() })) {
                Ok(gpu) => gpu,
                // The tests of package paddock-tests fail without an adapter where one is required.
                Err(error) => return eprintln!("SKIPPED: {error}"),
            };
            for op in Op::ALL {
                assert!(op.access().bytes().filter(|access| *access != b'-').count() <= BINDINGS, "{op:?}");
                for variant in variants(*op, gpu.0.subgroup) {
                    create(&gpu.0.device, variant);
                    gpu.0.check().unwrap_or_else(|error| panic!("{variant:?}: {error}"));
                }
            }
        }
    }
}
