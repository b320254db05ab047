// out = x · weightᵀ + bias, for many rows of x: tiles of 64 rows of x, 64 output rows and 16 columns go through
// workgroup memory; every invocation sums 4 × 4 outputs.
// Grid (tiles of output rows, tiles of rows of x).
const QUADS: u32 = 4u;
// Rows of a tile lie 5 quads apart, so that neighbouring invocations meet different banks.
const STRIDE: u32 = QUADS + 1u;
var<workgroup> x_tile: array<vec4<f32>, 64u * STRIDE>;
var<workgroup> w_tile: array<vec4<f32>, 64u * STRIDE>;

// Four columns of a weight row from column `4 · quad` on; zero beyond the last.
fn weight_quad(row: u32, quad: u32) -> vec4<f32> {
    let chunk = quad / (CHUNK / 4u);
    if (chunk >= params.chunks || row >= params.rows) {
        return vec4<f32>();
    }
    return chunk_values(load_chunk(row * params.chunks + chunk), quad % (CHUNK / 4u));
}

fn x_quad(row: u32, quad: u32) -> vec4<f32> {
    let width = params.chunks * (CHUNK / 4u);
    if (quad >= width || row >= params.x_rows) {
        return vec4<f32>();
    }
    return x[row * width + quad];
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
    store_four(x_row, row, 16u, sa);
    store_four(x_row + 16u, row, 16u, sb);
    store_four(x_row + 32u, row, 16u, sc);
    store_four(x_row + 48u, row, 16u, sd);
}
