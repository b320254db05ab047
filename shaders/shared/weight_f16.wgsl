// f16, unpacked without shader-f16; see weight_16_bits.wgsl.
alias Words = vec4<u32>;

fn unpack(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
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
