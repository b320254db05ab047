// Keys and values as f32, in quads of columns.
@group(0) @binding(4) var<storage, read_write> keys: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> values: array<vec4<f32>>;

fn load_key(i: u32) -> vec4<f32> {
    return keys[i];
}

fn load_value(i: u32) -> vec4<f32> {
    return values[i];
}

fn store_key(i: u32, key: vec4<f32>) {
    keys[i] = key;
}

fn store_value(i: u32, value: vec4<f32>) {
    values[i] = value;
}
