// Log-softmax of each row of logits at the row's target: a workgroup a row. The logits are a chunk of all rows; row i of
// the chunk is row first + i of targets and out.
struct Params { vocab: u32, first: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const THREADS: u32 = 256u;
const LOWEST: f32 = -3.0e38;
var<workgroup> maxima: array<f32, THREADS>;

// The largest logit of the row; it is subtracted from all, so that no exponential overflows.
fn largest(lane: u32, base: u32) -> f32 {
    var highest = LOWEST;
    for (var i = lane; i < params.vocab; i += THREADS) {
        highest = max(highest, logits[base + i]);
    }
    maxima[lane] = highest;
    workgroupBarrier();
    for (var i = 0u; i < THREADS; i++) {
        highest = max(highest, maxima[i]);
    }
    return highest;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let base = group.x * params.vocab;
    let highest = largest(lane, base);
    var sum = 0.0;
    for (var i = lane; i < params.vocab; i += THREADS) {
        sum += exp(logits[base + i] - highest);
    }
    sum = total(lane, sum);
    if (lane == 0u) {
        let row = params.first + group.x;
        out[row] = logits[base + targets[row]] - highest - precise_log(sum);
    }
}
