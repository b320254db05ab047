// For operations that read a weight and do not use `dots`: the functions of the weight that would ask for inputs.
fn input(i: u32) -> vec4<f32> {
    return vec4<f32>();
}
