// Cosine and sine to f32 precision on every device: WebGPU promises only 2⁻¹¹, and only within ±π.
// Reduction to ±π/4 in three steps of π/2 (Cody and Waite 1980), then the polynomials of Cephes' sinf and cosf.
struct Turn { cos: vec4<f32>, sin: vec4<f32> }

fn turn(angle: vec4<f32>) -> Turn {
    let quadrant = round(angle * 0.636619772);
    var r = angle - quadrant * 1.5703125;
    r = r - quadrant * 4.837512969970703125e-4;
    r = r - quadrant * 7.549789948768648e-8;
    let z = r * r;
    let s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r;
    let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
    let quarter = vec4<u32>(vec4<i32>(quadrant)) & vec4<u32>(3u);
    let odd = (quarter & vec4<u32>(1u)) == vec4<u32>(1u);
    let cos = select(c, s, odd);
    let sin = select(s, c, odd);
    return Turn(
        select(cos, -cos, (quarter == vec4<u32>(1u)) | (quarter == vec4<u32>(2u))),
        select(sin, -sin, quarter >= vec4<u32>(2u)));
}

// Two quads of a head, half a head apart, turned by their angles.
struct Halves { first: vec4<f32>, second: vec4<f32> }

fn rotate(halves: Halves, t: Turn) -> Halves {
    return Halves(halves.first * t.cos - halves.second * t.sin, halves.second * t.cos + halves.first * t.sin);
}
