// What the attention kernels share: fused rows [q | k | v], the table of their positions, and the heads. Columns are
// counted in quads, four at a time.
struct Params {
    quads: u32,     // of a fused row
    kv_quads: u32,  // of its keys, and of its values
    group: u32,     // query heads that share a key head
    table: u32,
    scale: f32,
    rows: u32,
    splits: u32,    // of the keys
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

const HEAD_QUADS: u32 = HEAD_DIM / 4u;
// Below every score.
const LOWEST: f32 = -3.0e38;
