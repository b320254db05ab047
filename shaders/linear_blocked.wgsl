// out = x · weightᵀ + bias, for many rows of x: every invocation keeps 4 × 4 sums in registers, without a barrier.
// Grid (groups of 16 × 4 output rows, groups of 4 × 4 rows of x).
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
            let a = chunk_values(ca, part);
            let b = chunk_values(cb, part);
            let c = chunk_values(cc, part);
            let d = chunk_values(cd, part);
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
    store_four(x_first, first, 1u, sa);
    store_four(x_first + 1u, first, 1u, sb);
    store_four(x_first + 2u, first, 1u, sc);
    store_four(x_first + 3u, first, 1u, sd);
}
