// Causal attention of rotated rows on the cache, for many rows on a graphics processor: a workgroup takes 16 rows of a
// segment and a head, and goes over the keys 32 at a time with online softmax. Grid (heads, tiles of rows).
// The table holds (first row, rows, position of the first row, slot of position 0) a tile.
const ROWS: u32 = 16u;
const KEYS: u32 = 32u;
const THREADS: u32 = 128u;
// Values: invocations (group, quad), each with SHARE rows.
const GROUPS: u32 = min(THREADS / HEAD_QUADS, ROWS);
const SHARE: u32 = (ROWS + GROUPS - 1u) / GROUPS;

var<workgroup> query: array<vec4<f32>, ROWS * HEAD_QUADS>;
var<workgroup> weights: array<f32, ROWS * KEYS>;
var<workgroup> highest: array<f32, ROWS>;
var<workgroup> kept: array<f32, ROWS>;
var<workgroup> totals: array<f32, ROWS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = at.x;
    let tile = params.table + at.y * 4u;
    let first = tables[tile];
    let rows = tables[tile + 1u];
    let position = tables[tile + 2u];
    let base = tables[tile + 3u];
    let kv_at = head / params.group * HEAD_QUADS;

    for (var i = lane; i < ROWS * HEAD_QUADS; i += THREADS) {
        let row = first + min(i / HEAD_QUADS, rows - 1u);
        query[i] = qkv[row * params.quads + head * HEAD_QUADS + i % HEAD_QUADS] * params.scale;
    }
    if (lane < ROWS) {
        highest[lane] = LOWEST;
        totals[lane] = 0.0;
    }
    var sums: array<vec4<f32>, SHARE>;
    for (var i = 0u; i < SHARE; i++) {
        sums[i] = vec4<f32>();
    }
    workgroupBarrier();

    for (var start = 0u; start < position + rows; start += KEYS) {
        // Scores of one key with four rows.
        let key = start + lane % KEYS;
        let four = lane / KEYS * 4u;
        var scores = vec4<f32>(LOWEST);
        if (key < position + rows) {
            let slot = (base + key) * params.kv_quads + kv_at;
            var s = vec4<f32>();
            for (var i = 0u; i < HEAD_QUADS; i++) {
                let k = load_key(slot + i);
                s += vec4<f32>(
                    dot(query[four * HEAD_QUADS + i], k),
                    dot(query[(four + 1u) * HEAD_QUADS + i], k),
                    dot(query[(four + 2u) * HEAD_QUADS + i], k),
                    dot(query[(four + 3u) * HEAD_QUADS + i], k));
            }
            let seen = vec4<u32>(key) <= vec4<u32>(position + four) + vec4<u32>(0u, 1u, 2u, 3u);
            scores = select(scores, s, seen);
        }
        for (var i = 0u; i < 4u; i++) {
            weights[(four + i) * KEYS + lane % KEYS] = scores[i];
        }
        workgroupBarrier();

        // Weights of one key with the same four rows; they need the highest score of each.
        var raised = vec4<f32>(highest[four], highest[four + 1u], highest[four + 2u], highest[four + 3u]);
        for (var i = 0u; i < KEYS; i++) {
            raised = max(raised, vec4<f32>(
                weights[four * KEYS + i],
                weights[(four + 1u) * KEYS + i],
                weights[(four + 2u) * KEYS + i],
                weights[(four + 3u) * KEYS + i]));
        }
        workgroupBarrier();
        let exps = select(exp(scores - raised), vec4<f32>(), scores <= vec4<f32>(LOWEST));
        for (var i = 0u; i < 4u; i++) {
            weights[(four + i) * KEYS + lane % KEYS] = exps[i];
        }
        if (lane % KEYS < 4u) {
            let row = four + lane % KEYS;
            kept[row] = exp(highest[row] - raised[lane % KEYS]);
            highest[row] = raised[lane % KEYS];
        }
        workgroupBarrier();

        if (lane < ROWS) {
            var total = totals[lane] * kept[lane];
            for (var i = 0u; i < KEYS; i++) {
                total += weights[lane * KEYS + i];
            }
            totals[lane] = total;
        }
        if (lane < GROUPS * HEAD_QUADS) {
            let mine_first = lane / HEAD_QUADS * SHARE;
            for (var r = 0u; r < SHARE; r++) {
                sums[r] *= kept[min(mine_first + r, ROWS - 1u)];
            }
            let keys = min(position + rows - start, KEYS);
            let slot = (base + start) * params.kv_quads + kv_at + lane % HEAD_QUADS;
            for (var i = 0u; i < keys; i++) {
                let value = load_value(slot + i * params.kv_quads);
                for (var r = 0u; r < SHARE; r++) {
                    let row = min(mine_first + r, ROWS - 1u);
                    sums[r] += weights[row * KEYS + i] * value;
                }
            }
        }
        workgroupBarrier();
    }

    if (lane < GROUPS * HEAD_QUADS) {
        for (var r = 0u; r < SHARE; r++) {
            let row = lane / HEAD_QUADS * SHARE + r;
            if (row < rows) {
                out[((first + row) * grid.x + head) * HEAD_QUADS + lane % HEAD_QUADS] = sums[r] / totals[row];
            }
        }
    }
}
