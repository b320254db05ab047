// Counts the tokens of the table as seen by a slot that has seen none: one bit each, from word `first` on.
struct Params { count: u32, table: u32, first: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tables: array<u32>;
@group(0) @binding(2) var<storage, read_write> seen: array<atomic<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < params.count) {
        let token = tables[params.table + at.x];
        atomicOr(&seen[params.first + (token >> 5u)], 1u << (token & 31u));
    }
}
