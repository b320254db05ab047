// Last step of `sample`: the best of all workgroups becomes the token and counts as seen. A score that is not a number
// wins every comparison and gives NO_TOKEN, which the host reports.
struct Params { groups: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bests: array<Best>;
@group(0) @binding(2) var<storage, read_write> seen: array<u32>;
@group(0) @binding(3) var<storage, read_write> token: array<u32>;

@compute @workgroup_size(1)
fn main() {
    var best = bests[0];
    for (var i = 1u; i < params.groups; i++) {
        best = better(best, bests[i]);
    }
    if (best.key > INFINITY_KEY || best.token == NO_TOKEN) {
        token[0] = NO_TOKEN;
    } else {
        token[0] = best.token;
        seen[best.token >> 5u] |= 1u << (best.token & 31u);
    }
}
