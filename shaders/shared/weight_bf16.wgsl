// bf16, the upper halves of f32; see weight_16_bits.wgsl.
alias Words = vec4<u32>;

fn unpack(words: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}

fn low(words: Words) -> vec4<f32> {
    return unpack(words.xy);
}

fn high(words: Words) -> vec4<f32> {
    return unpack(words.zw);
}

// Values 4 · part .. 4 · part + 4 of a chunk.
fn chunk_part(words: Words, part: u32) -> vec4<f32> {
    return unpack(select(words.xy, words.zw, part == 1u));
}
