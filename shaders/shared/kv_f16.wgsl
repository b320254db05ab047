// A cache of f16, two in a u32; needs no shader-f16. See kv.wgsl.
alias Quad = vec2<u32>;

fn unpack_quad(words: Quad) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn pack_quad(quad: vec4<f32>) -> Quad {
    // Values beyond f16 would make pack2x16float's result indeterminate.
    let held = clamp(quad, vec4<f32>(-65504.0), vec4<f32>(65504.0));
    return vec2<u32>(pack2x16float(held.xy), pack2x16float(held.zw));
}
