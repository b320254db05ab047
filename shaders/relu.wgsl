// max(x, 0): grid (groups of columns, rows).
struct Params { cols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < params.cols) {
        let i = at.y * params.cols + at.x;
        out[i] = max(x[i], 0.0);
    }
}
