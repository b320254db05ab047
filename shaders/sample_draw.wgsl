// Third step of `sample`, for rows that draw: scores at or above the threshold plus Gumbel noise, and the best of each
// workgroup: grid (groups, rows). The highest sum is a draw from their softmax.
struct Params { vocab: u32, groups: u32, table: u32, positions: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tables: array<u32>;
@group(0) @binding(2) var<storage, read> scores: array<f32>;
@group(0) @binding(3) var<storage, read> thresholds: array<u32>;
@group(0) @binding(4) var<storage, read_write> bests: array<Best>;

@compute @workgroup_size(BEST_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    if (temperature_of(row) == 0.0) {
        return;
    }
    let seed = seed_of(row);
    let position = tables[params.positions + row];
    let threshold = thresholds[row];
    var best = Best(0u, NO_TOKEN);
    for (var token = group.x * BEST_THREADS + lane; token < params.vocab; token += params.groups * BEST_THREADS) {
        let score = scores[row * params.vocab + token];
        let key = order_key(score);
        if (key == NAN_KEY) {
            best = Best(NAN_KEY, token);
        } else if (key >= threshold) {
            best = better(best, Best(order_key(score + gumbel(seed, position, token)), token));
        }
    }
    best = reduce_best(best, lane);
    if (lane == 0u) {
        bests[row * params.groups + group.x] = best;
    }
}
