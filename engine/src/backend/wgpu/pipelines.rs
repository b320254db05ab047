//! Pipelines and bind groups, made at first use and kept.

use std::collections::{BTreeSet, HashMap};

use super::buffers::Buffer;
use super::shaders::{Op, PARAMS, Variant};

/// Most bindings of an op, the parameters not counted: what plain WebGPU promises.
const BINDINGS: usize = 8;

struct Pipeline {
    raw: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// Pipelines and bind groups made so far.
pub(super) struct Pipelines {
    device: wgpu::Device,
    /// The kernels use shader-f16.
    half: bool,
    pipelines: HashMap<Variant, Pipeline>,
    bind_groups: HashMap<(Variant, [u64; BINDINGS]), wgpu::BindGroup>,
}

impl Pipelines {
    /// None so far. `half` tells whether kernels may use shader-f16.
    pub(super) fn new(device: &wgpu::Device, half: bool) -> Self {
        Self { device: device.clone(), half, pipelines: HashMap::new(), bind_groups: HashMap::new() }
    }

    /// The pipeline of `variant` and its bind group for `buffers`.
    pub(super) fn get(
        &mut self,
        variant: Variant,
        params: &wgpu::Buffer,
        buffers: &[&Buffer],
    ) -> (wgpu::ComputePipeline, wgpu::BindGroup) {
        let variant = if self.half { variant.with_half() } else { variant };
        let pipeline = self.pipelines.entry(variant).or_insert_with(|| create(&self.device, variant));
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
            self.device.create_bind_group(&wgpu::BindGroupDescriptor {
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
    use crate::backend::wgpu::shaders::Lanes;
    use crate::backend::wgpu::{KvEncoding, Options, WeightEncoding, Wgpu};

    const WEIGHTS: [WeightEncoding; 5] =
        [WeightEncoding::F32, WeightEncoding::F16, WeightEncoding::BF16, WeightEncoding::Q8, WeightEncoding::Q4];

    /// Every text that a device without subgroups, or with ones of `subgroup`, can ask for.
    fn variants(op: Op, subgroup: Option<u32>) -> Vec<Variant> {
        let lanes =
            || [Some(Lanes::Serial), Some(Lanes::Portable), subgroup.map(Lanes::Subgroup)].into_iter().flatten();
        match op {
            Op::Linear | Op::LinearAdd | Op::RmsNormLinear | Op::RmsNormGateUp => WEIGHTS
                .iter()
                .flat_map(|weight| lanes().map(|lanes| Variant::on_weight(op, *weight, Some(lanes))))
                .collect(),
            Op::LinearBlocked | Op::LinearTiled | Op::Embed => {
                WEIGHTS.iter().map(|weight| Variant::on_weight(op, *weight, None)).collect()
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
                    for variant in [Some(variant), gpu.0.half.then(|| variant.with_half())].into_iter().flatten() {
                        create(&gpu.0.device, variant);
                        gpu.0.fault.check().unwrap_or_else(|error| panic!("{variant:?}: {error}"));
                    }
                }
            }
        }
    }
}
