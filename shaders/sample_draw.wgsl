// Third step of `sample` when it draws: scores at or above the threshold plus Gumbel noise, and the best of each
// workgroup. The highest sum is a draw from their softmax.
struct Params { vocab: u32, seed: u32, position: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read> threshold: array<u32>;
@group(0) @binding(3) var<storage, read_write> bests: array<Best>;

@compute @workgroup_size(BEST_THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var best = Best(0u, NO_TOKEN);
    for (var token = group.x * BEST_THREADS + lane; token < params.vocab; token += groups.x * BEST_THREADS) {
        let key = order_key(scores[token]);
        if (key == NAN_KEY) {
            best = Best(NAN_KEY, token);
        } else if (key >= threshold[0]) {
            let noisy = scores[token] + gumbel(params.seed, params.position, token);
            best = better(best, Best(order_key(noisy), token));
        }
    }
    best = reduce_best(best, lane);
    if (lane == 0u) {
        bests[group.x] = best;
    }
}
