// Rows of f16, unpacked without shader-f16: a chunk is 8 values.
const CHUNK: u32 = 8u;
const AFFINE: bool = false;

@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;

struct Chunk { words: vec4<u32>, scale: f32, minimum: f32 }
struct Inputs { a: vec4<f32>, b: vec4<f32> }

fn load_chunk(index: u32) -> Chunk {
    return Chunk(quants[index], 1.0, 0.0);
}

fn unpack(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

// Values 4 · part .. 4 · part + 4 of a chunk, before scale and minimum.
fn chunk_part(words: vec4<u32>, part: u32) -> vec4<f32> {
    return unpack(select(words.xy, words.zw, part == 1u));
}

fn load_inputs(at: u32) -> Inputs {
    return Inputs(input(at), input(at + 1u));
}

fn sum_inputs(x: Inputs) -> f32 {
    return 0.0;
}

fn dot_chunk(words: vec4<u32>, x: Inputs) -> f32 {
    return dot(unpack(words.xy), x.a) + dot(unpack(words.zw), x.b);
}
