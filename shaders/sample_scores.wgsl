// First step of `sample`: scores = penalised logits / temperature, and the best of each workgroup: grid (groups, rows).
struct Params { vocab: u32, groups: u32, table: u32, seen_words: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tables: array<u32>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> seen: array<u32>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;
@group(0) @binding(5) var<storage, read_write> bests: array<Best>;

@compute @workgroup_size(BEST_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let first_seen = params.seen_words * slot_of(row);
    let penalty = penalty_of(row);
    let given = temperature_of(row);
    let temperature = select(given, 1.0, given == 0.0);
    var best = Best(0u, NO_TOKEN);
    for (var token = group.x * BEST_THREADS + lane; token < params.vocab; token += params.groups * BEST_THREADS) {
        var score = logits[row * params.vocab + token];
        if (((seen[first_seen + (token >> 5u)] >> (token & 31u)) & 1u) == 1u) {
            score = select(score * penalty, score / penalty, score > 0.0);
        }
        score = score / temperature;
        scores[row * params.vocab + token] = score;
        best = better(best, Best(order_key(score), token));
    }
    best = reduce_best(best, lane);
    if (lane == 0u) {
        bests[row * params.groups + group.x] = best;
    }
}
