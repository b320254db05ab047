// out = silu(gate) · up of rms_norm(x) · [gate | up]ᵀ + bias, for a few rows of x: grid (groups of output rows, rows of x).
// The four outputs of an invocation are gate and up of two columns.
fn weight_row(index: u32) -> u32 {
    return min((index & 1u) * params.out_cols + (index >> 1u), params.rows - 1u);
}

fn store_gated(x_row: u32, col: u32, gate_up: vec2<f32>) {
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
        let values = normalised(sums);
        store_gated(group.y, sums.first >> 1u, values.xy);
        store_gated(group.y, (sums.first >> 1u) + 1u, values.zw);
    }
}
