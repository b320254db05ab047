// What all products with a weight share: operands, and how an output is written.
// `quants` holds the output rows `first .. first + rows` of the weight, which may be split over several buffers.
struct Params {
    chunks: u32,    // of a row of the weight
    rows: u32,
    out_cols: u32,
    first: u32,
    has_bias: u32,
    eps: f32,       // where rows of x are normalised
    x_rows: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

// `row` counts the rows of this buffer.
fn store(x_row: u32, row: u32, value: f32) {
    if (x_row < params.x_rows && row < params.rows) {
        let col = params.first + row;
        var sum = value;
        if (params.has_bias == 1u) {
            sum += bias[col];
        }
        out[x_row * params.out_cols + col] = sum;
    }
}

// Four outputs, `step` rows apart.
fn store_four(x_row: u32, row: u32, step: u32, sums: vec4<f32>) {
    store(x_row, row, sums.x);
    store(x_row, row + step, sums.y);
    store(x_row, row + 2u * step, sums.z);
    store(x_row, row + 3u * step, sums.w);
}
