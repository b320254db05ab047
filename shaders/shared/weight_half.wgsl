// f16 where the device has shader-f16; see weight_16_bits.wgsl. Sums are f32 as everywhere.
alias Words = array<vec4<f16>, 2>;

fn low(words: Words) -> vec4<f32> {
    return vec4<f32>(words[0]);
}

fn high(words: Words) -> vec4<f32> {
    return vec4<f32>(words[1]);
}

// Values 4 · part .. 4 · part + 4 of a chunk.
fn chunk_part(words: Words, part: u32) -> vec4<f32> {
    return vec4<f32>(select(words[0], words[1], part == 1u));
}
