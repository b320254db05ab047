// silu(gate) · up of rows [gate | up]: grid (groups of columns, rows).
struct Params { cols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate_up: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < params.cols) {
        let gate = gate_up[at.y * 2u * params.cols + at.x];
        let up = gate_up[(at.y * 2u + 1u) * params.cols + at.x];
        out[at.y * params.cols + at.x] = gate / (1.0 + exp(-gate)) * up;
    }
}
