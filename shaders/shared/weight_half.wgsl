// Rows of f16 where the device has shader-f16: a chunk is 8 values. Sums are f32 as everywhere.
const CHUNK: u32 = 8u;
const AFFINE: bool = false;

@group(0) @binding(2) var<storage, read> quants: array<array<vec4<f16>, 2>>;

struct Chunk { words: array<vec4<f16>, 2>, scale: f32, minimum: f32 }
struct Inputs { a: vec4<f32>, b: vec4<f32> }

fn load_chunk(index: u32) -> Chunk {
    return Chunk(quants[index], 1.0, 0.0);
}

// Values 4 · part .. 4 · part + 4 of a chunk, before scale and minimum.
fn chunk_part(words: array<vec4<f16>, 2>, part: u32) -> vec4<f32> {
    return vec4<f32>(select(words[0], words[1], part == 1u));
}

fn load_inputs(at: u32) -> Inputs {
    return Inputs(input(at), input(at + 1u));
}

fn sum_inputs(x: Inputs) -> f32 {
    return 0.0;
}

fn dot_chunk(words: array<vec4<f16>, 2>, x: Inputs) -> f32 {
    return dot(vec4<f32>(words[0]), x.a) + dot(vec4<f32>(words[1]), x.b);
}
