// Keys and values of the cache, in quads of columns. Needs `Quad`, `unpack_quad` and `pack_quad`.
@group(0) @binding(4) var<storage, read_write> keys: array<Quad>;
@group(0) @binding(5) var<storage, read_write> values: array<Quad>;

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
