// First step of `sample`: scores = penalised logits / temperature, and the best of each workgroup.
struct Params { vocab: u32, penalty: f32, temperature: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> seen: array<u32>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;
@group(0) @binding(4) var<storage, read_write> bests: array<Best>;

@compute @workgroup_size(BEST_THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var best = Best(0u, NO_TOKEN);
    for (var token = group.x * BEST_THREADS + lane; token < params.vocab; token += groups.x * BEST_THREADS) {
        var score = logits[token];
        if (((seen[token >> 5u] >> (token & 31u)) & 1u) == 1u) {
            score = select(score * params.penalty, score / params.penalty, score > 0.0);
        }
        score = score / params.temperature;
        scores[token] = score;
        best = better(best, Best(order_key(score), token));
    }
    best = reduce_best(best, lane);
    if (lane == 0u) {
        bests[group.x] = best;
    }
}
