// Cosine and sine to f32 precision on every device: WebGPU promises only 2⁻¹¹, and only within ±π.
// Reduction to ±π/4 in three steps of π/2 (Cody and Waite 1980), then the polynomials of Cephes' sinf and cosf.
fn cos_sin(angle: f32) -> vec2<f32> {
    let quadrant = round(angle * 0.636619772);
    var r = angle - quadrant * 1.5703125;
    r = r - quadrant * 4.837512969970703125e-4;
    r = r - quadrant * 7.549789948768648e-8;
    let z = r * r;
    let s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r;
    let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
    let turn = i32(quadrant) & 3;
    let swapped = select(vec2<f32>(c, s), vec2<f32>(s, c), (turn & 1) == 1);
    return vec2<f32>(
        select(swapped.x, -swapped.x, turn == 1 || turn == 2),
        select(swapped.y, -swapped.y, turn >= 2));
}
