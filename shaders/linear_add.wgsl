// out = residual + x · weightᵀ + bias, for a few rows of x: grid (groups of output rows, rows of x).
@group(0) @binding(6) var<storage, read> residual: array<f32>;

fn residual_at(x_row: u32, row: u32) -> f32 {
    return residual[x_row * params.out_cols + params.first + weight_row(row)];
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sums = dots(group.x, lane, group.y);
    if (sums.whole) {
        let added = vec4<f32>(
            residual_at(group.y, sums.first),
            residual_at(group.y, sums.first + 1u),
            residual_at(group.y, sums.first + 2u),
            residual_at(group.y, sums.first + 3u));
        store_four(group.y, sums.first, 1u, sums.values + added);
    }
}
