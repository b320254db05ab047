// Rotates the q and k columns of fused rows [q | k | v]; v passes: grid (groups of pairs, rows). A pair of v counts as
// two columns that are copied. The table holds (position, slot of position 0) a row.
struct Params { cols: u32, rotated: u32, half: u32, table: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> frequencies: array<f32>;
@group(0) @binding(3) var<storage, read> tables: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let pair = at.x;
    if (pair * 2u >= params.cols) {
        return;
    }
    let i = pair % params.half;
    let first = at.y * params.cols + pair / params.half * 2u * params.half + i;
    let second = first + params.half;
    let a = qkv[first];
    let b = qkv[second];
    if (pair * 2u < params.rotated) {
        let t = turn(vec4<f32>(f32(tables[params.table + at.y * 2u]) * frequencies[i]));
        let turned = rotate(Halves(vec4<f32>(a), vec4<f32>(b)), t);
        out[first] = turned.first.x;
        out[second] = turned.second.x;
    } else {
        out[first] = a;
        out[second] = b;
    }
}
