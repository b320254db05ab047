// Dot products of one row of inputs with four rows of a weight: the core of every decoding product. A workgroup is
// ROW_LANES × K_LANES invocations: K_LANES of them share four output rows and add up their parts with `reduce`.
// Needs `params` (shared/product.wgsl), `weight_row`, and `input` with `squares` (shared/input*.wgsl).
const THREADS: u32 = ROW_LANES * K_LANES;

var<private> x_base: u32;

struct Dots {
    first: u32,        // index of the first of the four outputs
    values: vec4<f32>,
    squares: f32,      // sum of squares of the inputs, where the op counts them
    whole: bool,       // true in the one invocation that holds the sums
}

fn dots(group: u32, lane: u32, row: u32) -> Dots {
    let first = (group * ROW_LANES + lane / K_LANES) * 4u;
    let k_lane = lane % K_LANES;
    let a = weight_row(first) * params.chunks;
    let b = weight_row(first + 1u) * params.chunks;
    let c = weight_row(first + 2u) * params.chunks;
    let d = weight_row(first + 3u) * params.chunks;
    x_base = row * params.chunks * (CHUNK / 4u);
    var sums = vec4<f32>();
    for (var chunk = k_lane; chunk < params.chunks; chunk += K_LANES) {
        let x = load_inputs(chunk * (CHUNK / 4u));
        let wa = load_chunk(a + chunk);
        let wb = load_chunk(b + chunk);
        let wc = load_chunk(c + chunk);
        let wd = load_chunk(d + chunk);
        let products = vec4<f32>(
            dot_chunk(wa.words, x), dot_chunk(wb.words, x), dot_chunk(wc.words, x), dot_chunk(wd.words, x));
        if (AFFINE) {
            sums += products * vec4<f32>(wa.scale, wb.scale, wc.scale, wd.scale)
                + vec4<f32>(wa.minimum, wb.minimum, wc.minimum, wd.minimum) * sum_inputs(x);
        } else {
            sums += products;
        }
    }
    return reduce(Dots(first, sums, squares, k_lane == 0u), lane);
}
