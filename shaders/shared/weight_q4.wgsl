// Rows of u4 in blocks of 32 with an f16 scale and an f16 minimum: a chunk is a block. Word w holds values 8w .. 8w + 8:
// the low nibbles of its bytes are the first four, the high nibbles the others.
const CHUNK: u32 = 32u;
const AFFINE: bool = true;

@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

struct Chunk { words: vec4<u32>, scale: f32, minimum: f32 }
struct Inputs {
    a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>,
    e: vec4<f32>, f: vec4<f32>, g: vec4<f32>, h: vec4<f32>,
}

fn load_chunk(index: u32) -> Chunk {
    let affine = unpack2x16float(scales[index]);
    return Chunk(quants[index], affine.x, affine.y);
}

fn low(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u));
}

fn high(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(4u, 12u, 20u, 28u)) & vec4<u32>(15u));
}

// Values 4 · part .. 4 · part + 4 of a chunk, before scale and minimum.
fn chunk_part(words: vec4<u32>, part: u32) -> vec4<f32> {
    return low(words[part >> 1u] >> ((part & 1u) * 4u));
}

fn load_inputs(at: u32) -> Inputs {
    return Inputs(
        input(at), input(at + 1u), input(at + 2u), input(at + 3u),
        input(at + 4u), input(at + 5u), input(at + 6u), input(at + 7u),
    );
}

fn sum_inputs(x: Inputs) -> f32 {
    return dot(((x.a + x.b) + (x.c + x.d)) + ((x.e + x.f) + (x.g + x.h)), vec4<f32>(1.0));
}

fn dot_chunk(words: vec4<u32>, x: Inputs) -> f32 {
    return ((dot(low(words.x), x.a) + dot(high(words.x), x.b)) + (dot(low(words.y), x.c) + dot(high(words.y), x.d)))
        + ((dot(low(words.z), x.e) + dot(high(words.z), x.f)) + (dot(low(words.w), x.g) + dot(high(words.w), x.h)));
}
