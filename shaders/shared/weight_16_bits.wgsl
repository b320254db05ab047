// Rows of 16-bit floats: a chunk is 8 values. Needs `Words`, its `low` and `high` four values, and `chunk_part`.
const CHUNK: u32 = 8u;
const AFFINE: bool = false;

@group(0) @binding(2) var<storage, read> quants: array<Words>;

struct Chunk { words: Words, scale: f32, minimum: f32 }
struct Inputs { a: vec4<f32>, b: vec4<f32> }

fn load_chunk(index: u32) -> Chunk {
    return Chunk(quants[index], 1.0, 0.0);
}

fn load_inputs(at: u32) -> Inputs {
    return Inputs(input(at), input(at + 1u));
}

fn sum_inputs(x: Inputs) -> f32 {
    return 0.0;
}

fn dot_chunk(words: Words, x: Inputs) -> f32 {
    return dot(low(words), x.a) + dot(high(words), x.b);
}
