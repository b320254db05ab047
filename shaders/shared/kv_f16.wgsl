// Keys and values as pairs of f16 in a u32, in quads of columns; needs no shader-f16.
@group(0) @binding(4) var<storage, read_write> keys: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> values: array<vec2<u32>>;

fn unpack_quad(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn pack_quad(quad: vec4<f32>) -> vec2<u32> {
    // Values beyond f16 would make pack2x16float's result indeterminate.
    let held = clamp(quad, vec4<f32>(-65504.0), vec4<f32>(65504.0));
    return vec2<u32>(pack2x16float(held.xy), pack2x16float(held.zw));
}

fn load_key(i: u32) -> vec4<f32> {
    return unpack_quad(keys[i]);
}

fn load_value(i: u32) -> vec4<f32> {
    return unpack_quad(values[i]);
}

fn store_key(i: u32, key: vec4<f32>) {
    keys[i] = pack_quad(key);
}

fn store_value(i: u32, value: vec4<f32>) {
    values[i] = pack_quad(value);
}
