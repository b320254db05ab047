// The inputs of `dots` as they are.
var<private> squares: f32;

fn input(i: u32) -> vec4<f32> {
    return x[x_base + i];
}
