// Row ids[i] of the table as row i: grid (groups of quads of columns, tokens). `quants` holds the rows
// first .. first + rows of the table.
struct Params { chunks: u32, rows: u32, first: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let width = params.chunks * (CHUNK / 4u);
    let row = ids[at.y] - params.first;
    if (at.x < width && ids[at.y] >= params.first && row < params.rows) {
        let chunk = load_chunk(row * params.chunks + at.x / (CHUNK / 4u));
        out[at.y * width + at.x] = chunk_values(chunk, at.x % (CHUNK / 4u));
    }
}
