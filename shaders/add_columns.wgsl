// x, with scale · delta added to its `count` columns from `first` on, in `rows` rows from `first_row` on: grid (groups of
// columns, rows).
struct Params { cols: u32, first: u32, count: u32, scale: f32, first_row: u32, rows: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> delta: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < params.cols) {
        let i = at.y * params.cols + at.x;
        // These wrap around before the first.
        let column = at.x - params.first;
        let row = at.y - params.first_row;
        var value = x[i];
        if (column < params.count && row < params.rows) {
            value += params.scale * delta[row * params.count + column];
        }
        out[i] = value;
    }
}
