// Last step of `sample`: the best of all workgroups becomes the row's token, which its slot has then seen: grid (rows).
// A score that is not a number wins every comparison and gives NO_TOKEN, which the host reports.
struct Params { vocab: u32, groups: u32, table: u32, seen_words: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tables: array<u32>;
@group(0) @binding(2) var<storage, read> bests: array<Best>;
@group(0) @binding(3) var<storage, read_write> seen: array<u32>;
@group(0) @binding(4) var<storage, read_write> tokens: array<u32>;

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
    let row = group.x;
    var best = bests[row * params.groups];
    for (var i = 1u; i < params.groups; i++) {
        best = better(best, bests[row * params.groups + i]);
    }
    if (best.key > INFINITY_KEY || best.token == NO_TOKEN) {
        tokens[row] = NO_TOKEN;
    } else {
        tokens[row] = best.token;
        seen[params.seen_words * slot_of(row) + (best.token >> 5u)] |= 1u << (best.token & 31u);
    }
}
