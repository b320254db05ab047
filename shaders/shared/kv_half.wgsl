// Keys and values as f16 where the device has shader-f16, in quads of columns.
@group(0) @binding(4) var<storage, read_write> keys: array<vec4<f16>>;
@group(0) @binding(5) var<storage, read_write> values: array<vec4<f16>>;

fn load_key(i: u32) -> vec4<f32> {
    return vec4<f32>(keys[i]);
}

fn load_value(i: u32) -> vec4<f32> {
    return vec4<f32>(values[i]);
}

fn held(quad: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(clamp(quad, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

fn store_key(i: u32, key: vec4<f32>) {
    keys[i] = held(key);
}

fn store_value(i: u32, value: vec4<f32>) {
    values[i] = held(value);
}
