// out = x · weightᵀ + bias, for many rows of x: every invocation keeps 4 × 4 sums in registers, without a barrier.
// Grid (groups of 16 × 4 output rows, groups of 4 × 4 rows of x). See linear.wgsl for the split.
struct Params { chunks: u32, rows: u32, out_cols: u32, first: u32, has_bias: u32, x_rows: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

fn input(i: u32) -> vec4<f32> {
    return x[i];
}

fn values(chunk: Chunk, part: u32) -> vec4<f32> {
    return chunk_part(chunk.words, part) * chunk.scale + vec4<f32>(chunk.minimum);
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

@compute @workgroup_size(16, 4)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let first = id.x * 4u;
    let x_first = id.y * 4u;
    if (first >= params.rows || x_first >= params.x_rows) {
        return;
    }
    let last = params.rows - 1u;
    let wa = first * params.chunks;
    let wb = min(first + 1u, last) * params.chunks;
    let wc = min(first + 2u, last) * params.chunks;
    let wd = min(first + 3u, last) * params.chunks;
    let width = params.chunks * (CHUNK / 4u);
    let x_last = params.x_rows - 1u;
    let xa = x_first * width;
    let xb = min(x_first + 1u, x_last) * width;
    let xc = min(x_first + 2u, x_last) * width;
    let xd = min(x_first + 3u, x_last) * width;
    var sa = vec4<f32>();
    var sb = vec4<f32>();
    var sc = vec4<f32>();
    var sd = vec4<f32>();
    for (var chunk = 0u; chunk < params.chunks; chunk++) {
        let ca = load_chunk(wa + chunk);
        let cb = load_chunk(wb + chunk);
        let cc = load_chunk(wc + chunk);
        let cd = load_chunk(wd + chunk);
        for (var part = 0u; part < CHUNK / 4u; part++) {
            let i = chunk * (CHUNK / 4u) + part;
            let a = values(ca, part);
            let b = values(cb, part);
            let c = values(cc, part);
            let d = values(cd, part);
            var v = x[xa + i];
            sa += vec4<f32>(dot(v, a), dot(v, b), dot(v, c), dot(v, d));
            v = x[xb + i];
            sb += vec4<f32>(dot(v, a), dot(v, b), dot(v, c), dot(v, d));
            v = x[xc + i];
            sc += vec4<f32>(dot(v, a), dot(v, b), dot(v, c), dot(v, d));
            v = x[xd + i];
            sd += vec4<f32>(dot(v, a), dot(v, b), dot(v, c), dot(v, d));
        }
    }
    store(x_first, first, sa);
    store(x_first + 1u, first, sb);
    store(x_first + 2u, first, sc);
    store(x_first + 3u, first, sd);
}
