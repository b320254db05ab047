// Rows of i8 in blocks of 32 with an f16 scale and an f16 minimum: a chunk is 16 values, half a block.
const CHUNK: u32 = 16u;
const AFFINE: bool = true;

@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

struct Chunk { words: vec4<u32>, scale: f32, minimum: f32 }
struct Inputs { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32> }

fn load_chunk(index: u32) -> Chunk {
    let affine = unpack2x16float(scales[index >> 1u]);
    return Chunk(quants[index], affine.x, affine.y);
}

fn unpack(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// Values 4 · part .. 4 · part + 4 of a chunk, before scale and minimum.
fn chunk_part(words: vec4<u32>, part: u32) -> vec4<f32> {
    return unpack(words[part]);
}

fn load_inputs(at: u32) -> Inputs {
    return Inputs(input(at), input(at + 1u), input(at + 2u), input(at + 3u));
}

fn sum_inputs(x: Inputs) -> f32 {
    return dot((x.a + x.b) + (x.c + x.d), vec4<f32>(1.0));
}

fn dot_chunk(words: vec4<u32>, x: Inputs) -> f32 {
    return (dot(unpack(words.x), x.a) + dot(unpack(words.y), x.b))
        + (dot(unpack(words.z), x.c) + dot(unpack(words.w), x.d));
}
