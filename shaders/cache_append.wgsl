// Stores the k and v columns of rotated fused rows: grid (groups of quads of kv columns, rows).
// The table holds (position, slot of position 0) a row.
struct Params { quads: u32, q_quads: u32, kv_quads: u32, table: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < params.kv_quads) {
        let slot = tables[params.table + at.y * 2u] + tables[params.table + at.y * 2u + 1u];
        let source = at.y * params.quads + params.q_quads + at.x;
        store_key(slot * params.kv_quads + at.x, qkv[source]);
        store_value(slot * params.kv_quads + at.x, qkv[source + params.kv_quads]);
    }
}
