// AdamW with moments in eight bits on a dynamic map (learn/src/optim/dynamic8.rs), in blocks of 256 values with a
// scale each: a moment is a code, and its sign the code's upper bit where it has one. The parameter is held as in adamw.cu.

const u32 MOMENT_BLOCK = 256, SIGNED_MAGNITUDES = 128, MAGNITUDES = 128 + 256;

DEVICE float decode(u8 code, const float* magnitudes, bool has_sign) {
    float magnitude = magnitudes[has_sign ? code & 0x7f : code];
    return has_sign && (code & 0x80) != 0 ? -magnitude : magnitude;
}

// The code of the nearest magnitude; what is not 0 does not become 0.
DEVICE u8 encode(float value, float inverse, const float* magnitudes, bool has_sign) {
    float magnitude = fabsf(value) * inverse;
    // How many of the places halfway between two magnitudes lie below.
    u32 low = 0, high = has_sign ? 127 : 255;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if ((magnitudes[middle] + magnitudes[middle + 1]) * 0.5f < magnitude) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0 && magnitude > 0.0f) low = 1;
    return (u8)(has_sign && value < 0.0f ? low | 0x80 : low);
}

// Scale of a block whose threads bring a value each, and what they are multiplied with.
DEVICE float block_scale(float value, float& inverse) {
    float scale = block_max(fabsf(value));
    inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    return scale;
}

// `maps` holds the magnitudes with a sign and those without. A thread has a value of every block of its own block.
KERNEL(256)
adamw8(
    T* param, u16* rest, const G* grad, u8* first, float* first_scales, u8* second, float* second_scales,
    const float* maps, const double* squares, u64 count, u32 seed, u32 offset, float max_grad_norm, float beta1,
    float beta2, float eps, float decay, float step_size, float root_correction
) {
    float grad_scale = clip(squares, max_grad_norm);
    __shared__ float magnitudes[MAGNITUDES];
    for (u32 i = threadIdx.x; i < MAGNITUDES; i += blockDim.x) magnitudes[i] = maps[i];
    __syncthreads();
    const float* unsigned_magnitudes = magnitudes + SIGNED_MAGNITUDES;
    u64 blocks = (count + MOMENT_BLOCK - 1) / MOMENT_BLOCK;
    for (u64 block = blockIdx.x; block < blocks; block += gridDim.x) {
        u64 i = block * MOMENT_BLOCK + threadIdx.x;
        bool mine = i < count;
        float m = 0.0f, v = 0.0f;
        if (mine) {
            float slope = to_float(grad[i]) * grad_scale;
            m = first_scales[block] * decode(first[i], magnitudes, true);
            v = second_scales[block] * decode(second[i], unsigned_magnitudes, false);
            float value = adamw_value(master(param[i], rest, i), slope, m, v, beta1, beta2, eps, decay, step_size, root_correction);
            store_master(param[i], rest, i, value, noise(seed, offset + i));
        }
        float inverse;
        // Every thread has read the old scales when the first of these returns.
        float scale = block_scale(m, inverse);
        if (mine) first[i] = encode(m, inverse, magnitudes, true);
        if (threadIdx.x == 0) first_scales[block] = scale;
        scale = block_scale(v, inverse);
        if (mine) second[i] = encode(v, inverse, unsigned_magnitudes, false);
        if (threadIdx.x == 0) second_scales[block] = scale;
    }
}
