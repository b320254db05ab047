// Rows of f32: a chunk is 4 values.
const CHUNK: u32 = 4u;
const AFFINE: bool = false;

@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;

struct Chunk { words: vec4<u32>, scale: f32, minimum: f32 }
struct Inputs { a: vec4<f32> }

fn load_chunk(index: u32) -> Chunk {
    return Chunk(quants[index], 1.0, 0.0);
}

// Values 4 · part .. 4 · part + 4 of a chunk, before scale and minimum.
fn chunk_part(words: vec4<u32>, part: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(words);
}

fn load_inputs(at: u32) -> Inputs {
    return Inputs(input(at));
}

fn sum_inputs(x: Inputs) -> f32 {
    return 0.0;
}

fn dot_chunk(words: vec4<u32>, x: Inputs) -> f32 {
    return dot(chunk_part(words, 0u), x.a);
}
