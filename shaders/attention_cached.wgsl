// Causal attention of rotated rows on the cache: an invocation a row and head, its sums in registers, no barrier.
// Grid (groups of rows, heads). The table holds (position, slot of position 0) a row. Softmax is online
// (arXiv 1805.02867).
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let row = at.x;
    let head = at.y;
    if (row >= params.rows) {
        return;
    }
    let position = tables[params.table + row * 2u];
    let base = tables[params.table + row * 2u + 1u];
    var q: array<vec4<f32>, HEAD_QUADS>;
    var sums: array<vec4<f32>, HEAD_QUADS>;
    for (var i = 0u; i < HEAD_QUADS; i++) {
        q[i] = qkv[row * params.quads + head * HEAD_QUADS + i] * params.scale;
        sums[i] = vec4<f32>();
    }
    var highest = LOWEST;
    var total = 0.0;
    for (var key = 0u; key <= position; key++) {
        let source = (base + key) * params.kv_quads + head / params.group * HEAD_QUADS;
        var score = 0.0;
        for (var i = 0u; i < HEAD_QUADS; i++) {
            score += dot(q[i], load_key(source + i));
        }
        let raised = max(highest, score);
        let kept = exp(highest - raised);
        let weight = exp(score - raised);
        highest = raised;
        total = total * kept + weight;
        for (var i = 0u; i < HEAD_QUADS; i++) {
            sums[i] = sums[i] * kept + weight * load_value(source + i);
        }
    }
    for (var i = 0u; i < HEAD_QUADS; i++) {
        out[(row * grid.y + head) * HEAD_QUADS + i] = sums[i] / total;
    }
}
