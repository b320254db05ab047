// A cache of f16 where the device has shader-f16; see kv.wgsl.
alias Quad = vec4<f16>;

fn unpack_quad(quad: Quad) -> vec4<f32> {
    return vec4<f32>(quad);
}

fn pack_quad(quad: vec4<f32>) -> Quad {
    return vec4<f16>(clamp(quad, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}
