// out = x · weightᵀ + bias, for a few rows of x: grid (groups of output rows, rows of x).
// `weight` is rows `first ..` of the whole weight, where that is split over several buffers.
struct Params { chunks: u32, rows: u32, out_cols: u32, first: u32, has_bias: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

var<private> squares: f32;
var<private> x_base: u32;

fn input(i: u32) -> vec4<f32> {
    return x[x_base + i];
}

fn weight_row(index: u32) -> u32 {
    return min(index, params.rows - 1u);
}

fn store(x_row: u32, row: u32, value: f32) {
    if (row < params.rows) {
        let col = params.first + row;
        var sum = value;
        if (params.has_bias == 1u) {
            sum += bias[col];
        }
        out[x_row * params.out_cols + col] = sum;
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sums = dots(group.x, lane, group.y);
    if (sums.whole) {
        store(group.y, sums.first, sums.values.x);
        store(group.y, sums.first + 1u, sums.values.y);
        store(group.y, sums.first + 2u, sums.values.z);
        store(group.y, sums.first + 3u, sums.values.w);
    }
}
