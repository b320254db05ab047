// Rotary embedding, cache write and attention of segments of one row each: grid (heads, rows, splits of the keys).
// The first head of a group writes the new key and value; the others take them from the fused row, so no invocation
// reads what another writes. With more than one split every split leaves its sums, maximum and total for
// attention_merge.wgsl. The table holds (position, slot of position 0) a row.
@group(0) @binding(3) var<storage, read> frequencies: array<vec4<f32>>;

const HALF: u32 = HEAD_QUADS / 2u;
const THREADS: u32 = 64u;
// Invocations (group, quad): each sums one quad of the values of every GROUPS-th key.
const GROUPS: u32 = THREADS / HEAD_QUADS;

var<workgroup> query: array<vec4<f32>, HEAD_QUADS>;
var<workgroup> new_key: array<vec4<f32>, HEAD_QUADS>;
var<workgroup> weights: array<f32, THREADS>;
var<workgroup> parts: array<vec4<f32>, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = at.x;
    let row = at.y;
    let position = tables[params.table + row * 2u];
    let base = tables[params.table + row * 2u + 1u];
    let kv_at = head / params.group * HEAD_QUADS;
    let q_row = row * params.quads + head * HEAD_QUADS;
    let k_row = row * params.quads + grid.x * HEAD_QUADS + kv_at;
    let v_row = k_row + params.kv_quads;
    let keys_of_split = (position / params.splits / THREADS + 1u) * THREADS;
    let start = at.z * keys_of_split;
    let end = min(start + keys_of_split, position + 1u);

    if (lane < HALF) {
        let t = turn(f32(position) * frequencies[lane]);
        let q = rotate(Halves(qkv[q_row + lane], qkv[q_row + HALF + lane]), t);
        query[lane] = q.first * params.scale;
        query[lane + HALF] = q.second * params.scale;
        let k = rotate(Halves(qkv[k_row + lane], qkv[k_row + HALF + lane]), t);
        new_key[lane] = k.first;
        new_key[lane + HALF] = k.second;
        if (at.z == 0u && head % params.group == 0u) {
            let slot = (base + position) * params.kv_quads + kv_at + lane;
            store_key(slot, k.first);
            store_key(slot + HALF, k.second);
            store_value(slot, qkv[v_row + lane]);
            store_value(slot + HALF, qkv[v_row + HALF + lane]);
        }
    }
    workgroupBarrier();

    var highest = LOWEST;
    var total = 0.0;
    var sum = vec4<f32>();
    let quad = lane % HEAD_QUADS;
    for (var tile = start; tile < end; tile += THREADS) {
        let key = tile + lane;
        var score = LOWEST;
        if (key < end) {
            score = 0.0;
            if (key == position) {
                for (var i = 0u; i < HEAD_QUADS; i++) {
                    score += dot(query[i], new_key[i]);
                }
            } else {
                let slot = (base + key) * params.kv_quads + kv_at;
                for (var i = 0u; i < HEAD_QUADS; i++) {
                    score += dot(query[i], load_key(slot + i));
                }
            }
        }
        weights[lane] = score;
        workgroupBarrier();
        var raised = highest;
        for (var i = 0u; i < THREADS; i++) {
            raised = max(raised, weights[i]);
        }
        let kept = exp(highest - raised);
        highest = raised;
        workgroupBarrier();
        weights[lane] = select(0.0, exp(score - raised), key < end);
        workgroupBarrier();
        total = total * kept;
        for (var i = 0u; i < THREADS; i++) {
            total += weights[i];
        }
        sum = sum * kept;
        if (lane < GROUPS * HEAD_QUADS) {
            for (var i = lane / HEAD_QUADS; i < min(end - tile, THREADS); i += GROUPS) {
                var value: vec4<f32>;
                if (tile + i == position) {
                    value = qkv[v_row + quad];
                } else {
                    value = load_value((base + tile + i) * params.kv_quads + kv_at + quad);
                }
                sum += weights[i] * value;
            }
        }
        workgroupBarrier();
    }

    parts[lane] = sum;
    workgroupBarrier();
    if (lane < HEAD_QUADS) {
        for (var i = 1u; i < GROUPS; i++) {
            sum += parts[i * HEAD_QUADS + lane];
        }
        let slot = row * grid.x + head;
        if (params.splits == 1u) {
            out[slot * HEAD_QUADS + lane] = sum / total;
        } else {
            let split = (slot * params.splits + at.z) * (HEAD_QUADS + 1u);
            out[split + lane] = sum;
            if (lane == 0u) {
                out[split + HEAD_QUADS] = vec4<f32>(highest, total, 0.0, 0.0);
            }
        }
    }
}
