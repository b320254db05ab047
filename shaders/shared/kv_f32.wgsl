// A cache of f32; see kv.wgsl.
alias Quad = vec4<f32>;

fn unpack_quad(quad: Quad) -> vec4<f32> {
    return quad;
}

fn pack_quad(quad: vec4<f32>) -> Quad {
    return quad;
}
