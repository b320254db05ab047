// Copies slots of one sequence to another, whatever they hold: grid (groups of pairs of words of a slot, slots).
struct Params { pairs: u32, from_slot: u32, to_slot: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> keys: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> values: array<vec2<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < params.pairs) {
        let source = (params.from_slot + at.y) * params.pairs + at.x;
        let copy = (params.to_slot + at.y) * params.pairs + at.x;
        keys[copy] = keys[source];
        values[copy] = values[source];
    }
}
