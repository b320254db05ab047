// The inputs of `dots` times the gain of an RMSNorm. The root mean square is a factor of the whole row, so it is applied
// to the finished sums, and the row is read once.
@group(0) @binding(6) var<storage, read> gain: array<vec4<f32>>;

var<private> squares: f32;

fn input(i: u32) -> vec4<f32> {
    let value = x[x_base + i];
    squares += dot(value, value);
    return value * gain[i];
}

fn normalised(sums: Dots) -> vec4<f32> {
    return sums.values * inverseSqrt(sums.squares / f32(params.chunks * CHUNK) + params.eps);
}
