// Joins what the splits of rope_attention_cached.wgsl left: grid (heads, rows).
struct Params { splits: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

const HEAD_QUADS: u32 = HEAD_DIM / 4u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if (lane >= HEAD_QUADS) {
        return;
    }
    let slot = at.y * grid.x + at.x;
    let first = slot * params.splits * (HEAD_QUADS + 1u);
    var highest = parts[first + HEAD_QUADS].x;
    for (var split = 1u; split < params.splits; split++) {
        highest = max(highest, parts[first + split * (HEAD_QUADS + 1u) + HEAD_QUADS].x);
    }
    var sum = vec4<f32>();
    var total = 0.0;
    for (var split = 0u; split < params.splits; split++) {
        let part = first + split * (HEAD_QUADS + 1u);
        let state = parts[part + HEAD_QUADS];
        let weight = exp(state.x - highest);
        sum += parts[part + lane] * weight;
        total += state.y * weight;
    }
    out[slot * HEAD_QUADS + lane] = sum / total;
}
