// out = x · weightᵀ + bias, for many rows of x: tiles of 64 rows of x, 64 output rows and 32 columns go through
// workgroup memory (16 KiB, what plain WebGPU promises); every invocation sums 4 × 4 outputs.
// Grid (tiles of output rows, tiles of rows of x). See linear.wgsl for the split.
struct Params { chunks: u32, rows: u32, out_cols: u32, first: u32, has_bias: u32, x_rows: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

const K: u32 = 32u;
// Column k, rows 4i .. 4i + 4 of a tile at [k · 16 + i].
var<workgroup> x_tile: array<vec4<f32>, 512>;
var<workgroup> w_tile: array<vec4<f32>, 512>;

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

fn store(x_row: u32, first: u32, sums: vec4<f32>) {
    if (x_row < params.x_rows) {
        for (var i = 0u; i < 4u; i++) {
            if (first + i < params.rows) {
                let col = params.first + first + i;
                var sum = sums[i];
                if (params.has_bias == 1u) {
                    sum += bias[col];
                }
                out[x_row * params.out_cols + col] = sum;
            }
        }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile_row = group.x * 64u;
    let tile_x = group.y * 64u;
    // Loading: row `lane / 4` of both tiles, quads `lane % 4` and `lane % 4 + 4`.
    let load_row = lane / 4u;
    let slot = load_row / 4u;
    let component = load_row % 4u;
    // Computing: rows of x 4 · ty .., output rows 4 · tx ...
    let tx = lane % 16u;
    let ty = lane / 16u;
    var sa = vec4<f32>();
    var sb = vec4<f32>();
    var sc = vec4<f32>();
    var sd = vec4<f32>();
    let columns = params.chunks * CHUNK;
    for (var start = 0u; start < columns; start += K) {
        for (var half = 0u; half < 2u; half++) {
            let quad = lane % 4u + half * 4u;
            let a = x_quad(tile_x + load_row, start / 4u + quad);
            let b = weight_quad(tile_row + load_row, start / 4u + quad);
            for (var i = 0u; i < 4u; i++) {
                x_tile[(quad * 4u + i) * 16u + slot][component] = a[i];
                w_tile[(quad * 4u + i) * 16u + slot][component] = b[i];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < K; k++) {
            let a = x_tile[k * 16u + ty];
            let b = w_tile[k * 16u + tx];
            sa += a.x * b;
            sb += a.y * b;
            sc += a.z * b;
            sd += a.w * b;
        }
        workgroupBarrier();
    }
    let x_row = tile_x + ty * 4u;
    let first = tile_row + tx * 4u;
    store(x_row, first, sa);
    store(x_row + 1u, first, sb);
    store(x_row + 2u, first, sc);
    store(x_row + 3u, first, sd);
}
