// The best of many (score, token) pairs: the higher score, and of equal ones the lower token.
struct Best { key: u32, token: u32 }

const NO_TOKEN: u32 = 0xffffffffu;
const NAN_KEY: u32 = 0xffffffffu;
const INFINITY_KEY: u32 = 0xff800000u;

// A u32 that orders as the float does; NaN above everything. -0 counts as 0.
fn order_key(score: f32) -> u32 {
    let bits = bitcast<u32>(score);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return NAN_KEY;
    }
    if ((bits & 0x80000000u) != 0u) {
        return select(~bits, 0x80000000u, bits == 0x80000000u);
    }
    return bits | 0x80000000u;
}

fn better(a: Best, b: Best) -> Best {
    if (b.key > a.key || (b.key == a.key && b.token < a.token)) {
        return b;
    }
    return a;
}

const BEST_THREADS: u32 = 128u;
var<workgroup> candidates: array<Best, BEST_THREADS>;

// The best of a workgroup of BEST_THREADS, in its invocation 0.
fn reduce_best(best: Best, lane: u32) -> Best {
    candidates[lane] = best;
    workgroupBarrier();
    for (var step = BEST_THREADS / 2u; step > 0u; step >>= 1u) {
        if (lane < step) {
            candidates[lane] = better(candidates[lane], candidates[lane + step]);
        }
        workgroupBarrier();
    }
    return candidates[0];
}
