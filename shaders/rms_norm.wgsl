// x / sqrt(mean(x²) + eps) · gain: a workgroup a row.
struct Params { quads: u32, eps: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let base = group.x * params.quads;
    var squares = 0.0;
    for (var i = lane; i < params.quads; i += THREADS) {
        let value = x[base + i];
        squares += dot(value, value);
    }
    let factor = inverseSqrt(total(lane, squares) / f32(params.quads * 4u) + params.eps);
    for (var i = lane; i < params.quads; i += THREADS) {
        out[base + i] = x[base + i] * factor * gain[i];
    }
}
