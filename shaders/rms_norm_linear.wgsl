// out = rms_norm(x) · weightᵀ + bias, for a few rows of x: grid (groups of output rows, rows of x).
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sums = dots(group.x, lane, group.y);
    if (sums.whole) {
        store_four(group.y, sums.first, 1u, normalised(sums));
    }
}
