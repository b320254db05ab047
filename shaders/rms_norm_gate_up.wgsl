// out = silu(gate) · up of rms_norm(x) · [gate | up]ᵀ + bias, for a few rows of x; see rms_norm_linear.wgsl.
// The four outputs of an invocation are gate and up of two columns.
struct Params { chunks: u32, rows: u32, out_cols: u32, first: u32, has_bias: u32, eps: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

var<private> squares: f32;
var<private> x_base: u32;

fn input(i: u32) -> vec4<f32> {
    let value = x[x_base + i];
    squares += dot(value, value);
    return value * gain[i];
}

fn weight_row(index: u32) -> u32 {
    return min((index & 1u) * params.out_cols + (index >> 1u), params.rows - 1u);
}

fn store(x_row: u32, col: u32, gate_up: vec2<f32>) {
    if (col < params.out_cols) {
        var pair = gate_up;
        if (params.has_bias == 1u) {
            pair += vec2<f32>(bias[col], bias[params.out_cols + col]);
        }
        out[x_row * params.out_cols + col] = pair.x / (1.0 + exp(-pair.x)) * pair.y;
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sums = dots(group.x, lane, group.y);
    if (sums.whole) {
        let values = sums.values * inverseSqrt(sums.squares / f32(params.chunks * CHUNK) + params.eps);
        store(group.y, sums.first >> 1u, values.xy);
        store(group.y, (sums.first >> 1u) + 1u, values.zw);
    }
}
