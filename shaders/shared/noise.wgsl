// Gumbel noise, the twin of `sampling_noise` in engine/src/backend/mod.rs. Needs shared/log.wgsl.
fn pcg(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

// Uniform in (0, 1).
fn uniform_noise(seed: u32, position: u32, token: u32) -> f32 {
    return (f32(pcg(token ^ pcg(position ^ pcg(seed))) >> 9u) + 0.5) / 8388608.0;
}

fn gumbel(seed: u32, position: u32, token: u32) -> f32 {
    return -precise_log(-precise_log(uniform_noise(seed, position, token)));
}
