// Values 4 · part .. 4 · part + 4 of a chunk of a weight.
fn chunk_values(chunk: Chunk, part: u32) -> vec4<f32> {
    return chunk_part(chunk.words, part) * chunk.scale + vec4<f32>(chunk.minimum);
}
