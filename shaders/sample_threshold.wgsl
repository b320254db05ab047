// Second step of `sample`, for rows that draw: the lowest score that top-k, top-p and min-p keep, as an order key,
// without sorting. Both thresholds are found digit by digit, 8 bits at a time, from a histogram of counts or of masses.
// Masses are fixed point, 2³¹ the whole, so that their sum does not depend on the order of the additions.
// Grid (1, rows).
struct Params { vocab: u32, groups: u32, table: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tables: array<u32>;
@group(0) @binding(2) var<storage, read> scores: array<f32>;
@group(0) @binding(3) var<storage, read> bests: array<Best>;
@group(0) @binding(4) var<storage, read_write> thresholds: array<u32>;

const WHOLE: f32 = 2147483648.0;
const BINS: u32 = 256u;
var<workgroup> bins: array<atomic<u32>, BINS>;
var<workgroup> parts: array<f32, BEST_THREADS>;
var<workgroup> digit: u32;
var<workgroup> above: u32;

fn mass(score: f32, highest: f32, total: f32) -> u32 {
    return u32(round(exp(score - highest) / total * WHOLE));
}

// The largest key t such that the keys of at least `lowest` that are >= t weigh `goal` together; a key weighs 1, or its
// mass if `total` is not 0. `first` is where the row's scores begin.
fn weighted_key(lane: u32, first: u32, lowest: u32, goal: u32, highest: f32, total: f32) -> u32 {
    var prefix = 0u;
    var missing = goal;
    for (var shift = 24i; shift >= 0; shift -= 8) {
        for (var bin = lane; bin < BINS; bin += BEST_THREADS) {
            atomicStore(&bins[bin], 0u);
        }
        workgroupBarrier();
        for (var token = lane; token < params.vocab; token += BEST_THREADS) {
            let key = order_key(scores[first + token]);
            // The bits above this digit; a shift by 32 is not defined, hence two.
            if (key >= lowest && ((key ^ prefix) >> u32(shift)) >> 8u == 0u) {
                var weight = 1u;
                if (total != 0.0) {
                    weight = mass(scores[first + token], highest, total);
                }
                atomicAdd(&bins[(key >> u32(shift)) & 255u], weight);
            }
        }
        workgroupBarrier();
        if (lane == 0u) {
            var sum = 0u;
            var bin = BINS - 1u;
            loop {
                let weight = atomicLoad(&bins[bin]);
                if (bin == 0u || sum + weight >= missing) {
                    break;
                }
                sum += weight;
                bin -= 1u;
            }
            digit = bin;
            above = sum;
        }
        let found = workgroupUniformLoad(&digit);
        missing -= workgroupUniformLoad(&above);
        prefix |= found << u32(shift);
    }
    return prefix;
}

@compute @workgroup_size(BEST_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    if (temperature_of(row) == 0.0) {
        return;
    }
    let first = row * params.vocab;
    var best = bests[row * params.groups];
    for (var i = 1u; i < params.groups; i++) {
        best = better(best, bests[row * params.groups + i]);
    }
    let highest = scores[first + min(best.token, params.vocab - 1u)];
    var lowest = 0u;
    let top_k = top_k_of(row);
    if (top_k > 0u && top_k < params.vocab) {
        lowest = weighted_key(lane, first, 0u, top_k, 0.0, 0.0);
    }
    let top_p = top_p_of(row);
    if (top_p < 1.0) {
        var part = 0.0;
        for (var token = lane; token < params.vocab; token += BEST_THREADS) {
            if (order_key(scores[first + token]) >= lowest) {
                part += exp(scores[first + token] - highest);
            }
        }
        parts[lane] = part;
        workgroupBarrier();
        var total = 0.0;
        for (var i = 0u; i < BEST_THREADS; i++) {
            total += parts[i];
        }
        lowest = max(lowest, weighted_key(lane, first, lowest, max(u32(top_p * WHOLE), 1u), highest, total));
    }
    if (lane == 0u) {
        thresholds[row] = max(lowest, order_key(highest + log_min_p_of(row)));
    }
}
