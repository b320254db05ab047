// x, with scale · delta added to its `count` columns from `first` on: grid (groups of columns, rows).
struct Params { cols: u32, first: u32, count: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> delta: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < params.cols) {
        let i = at.y * params.cols + at.x;
        // Wraps around below `first`.
        let column = at.x - params.first;
        var value = x[i];
        if (column < params.count) {
            value += params.scale * delta[at.y * params.count + column];
        }
        out[i] = value;
    }
}
