// out = x · weightᵀ + bias, for many rows of x: tiles of 64 rows of x, 64 output rows and 16 columns go through
// workgroup memory; every invocation sums 4 × 4 outputs.
// Grid (tiles of output rows, tiles of rows of x). See linear.wgsl for the split.
struct Params { chunks: u32, rows: u32, out_cols: u32, first: u32, has_bias: u32, x_rows: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

const QUADS: u32 = 4u;
// Rows of a tile lie 5 quads apart, so that neighbouring invocations meet different banks.
const STRIDE: u32 = QUADS + 1u;
var<workgroup> x_tile: array<vec4<f32>, 64u * STRIDE>;
var<workgroup> w_tile: array<vec4<f32>, 64u * STRIDE>;

fn input(i: u32) -> vec4<f32> {
    return x[i];
}

// Four columns of a weight row from column `4 · quad` on; zero behind the last.
fn weight_quad(row: u32, quad: u32) -> vec4<f32> {
    let chunk = quad / (CHUNK / 4u);
    if (chunk >= params.chunks || row >= params.rows) {
        return vec4<f32>();
    }
    let loaded = load_chunk(row * params.chunks + chunk);
    return chunk_part(loaded.words, quad % (CHUNK / 4u)) * loaded.scale + vec4<f32>(loaded.minimum);
}

fn x_quad(row: u32, quad: u32) -> vec4<f32> {
    let width = params.chunks * (CHUNK / 4u);
    if (quad >= width || row >= params.x_rows) {
        return vec4<f32>();
    }
    return x[row * width + quad];
}

fn store(x_row: u32, row: u32, value: f32) {
    if (x_row < params.x_rows && row < params.rows) {
        let col = params.first + row;
        var sum = value;
        if (params.has_bias == 1u) {
            sum += bias[col];
        }
        out[x_row * params.out_cols + col] = sum;
    }
}

fn store_four(x_row: u32, row: u32, sums: vec4<f32>) {
    store(x_row, row, sums.x);
    store(x_row, row + 16u, sums.y);
    store(x_row, row + 32u, sums.z);
    store(x_row, row + 48u, sums.w);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile_row = group.x * 64u;
    let tile_x = group.y * 64u;
    // An invocation loads a quad of a row of each tile, and sums rows tx, tx + 16, .. by rows of x ty, ty + 16, ...
    let load_row = lane / QUADS;
    let load_quad = lane % QUADS;
    let tx = lane % 16u;
    let ty = lane / 16u;
    var sa = vec4<f32>();
    var sb = vec4<f32>();
    var sc = vec4<f32>();
    var sd = vec4<f32>();
    let width = params.chunks * (CHUNK / 4u);
    for (var start = 0u; start < width; start += QUADS) {
        x_tile[load_row * STRIDE + load_quad] = x_quad(tile_x + load_row, start + load_quad);
        w_tile[load_row * STRIDE + load_quad] = weight_quad(tile_row + load_row, start + load_quad);
        workgroupBarrier();
        for (var quad = 0u; quad < QUADS; quad++) {
            let wa = w_tile[tx * STRIDE + quad];
            let wb = w_tile[(tx + 16u) * STRIDE + quad];
            let wc = w_tile[(tx + 32u) * STRIDE + quad];
            let wd = w_tile[(tx + 48u) * STRIDE + quad];
            var v = x_tile[ty * STRIDE + quad];
            sa += vec4<f32>(dot(v, wa), dot(v, wb), dot(v, wc), dot(v, wd));
            v = x_tile[(ty + 16u) * STRIDE + quad];
            sb += vec4<f32>(dot(v, wa), dot(v, wb), dot(v, wc), dot(v, wd));
            v = x_tile[(ty + 32u) * STRIDE + quad];
            sc += vec4<f32>(dot(v, wa), dot(v, wb), dot(v, wc), dot(v, wd));
            v = x_tile[(ty + 48u) * STRIDE + quad];
            sd += vec4<f32>(dot(v, wa), dot(v, wb), dot(v, wc), dot(v, wd));
        }
        workgroupBarrier();
    }
    let x_row = tile_x + ty;
    let row = tile_row + tx;
    store_four(x_row, row, sa);
    store_four(x_row + 16u, row, sb);
    store_four(x_row + 32u, row, sc);
    store_four(x_row + 48u, row, sd);
}
