// AdamW (arXiv 1711.05101), fused: gradient, moments and parameter are read and written once.
//
// What holds the exact parameter:
//   f32                      the parameter itself
//   bf16 with `rest`         the parameter and 16 further bits: together an f32 (4 bytes where a copy would take 6)
//   bf16 without             nothing: it is rounded up or down by chance, so that small updates count on average
// bf16 moments are rounded by chance too: to the nearest, the second moment could grow and never fall.
// The twin of learn/src/optim: the same bits for the same seed.

// 32 random bits: they do not depend on the launch, and a replayed step has them again.
DEVICE u32 noise(u32 seed, u64 index) { return pcg((u32)index ^ seed); }

DEVICE void store_stochastic(float& to, float value, u32) { to = value; }

// Up with the probability of the part that is cut off. Infinities and NaN are not touched.
DEVICE void store_stochastic(bf16& to, float value, u32 bits) {
    u32 exact = __float_as_uint(value);
    bool finite = (exact & 0x7f800000u) != 0x7f800000u;
    to.bits = finite ? (u16)((exact + (bits & 0xffffu)) >> 16) : nearest_bf16(value);
}

DEVICE float master(float value, const u16*, u64) { return value; }

// Rounded half up, the rest signed: adding it gives the f32's bits back.
DEVICE float master(bf16 value, const u16* rest, u64 i) {
    u32 bits = (u32)value.bits << 16;
    return __uint_as_float(rest != nullptr ? bits + (u32)(int)(short)rest[i] : bits);
}

DEVICE void store_master(float& to, u16*, u64, float value, u32) { to = value; }

DEVICE void store_master(bf16& to, u16* rest, u64 i, float value, u32 bits) {
    if (rest == nullptr) {
        store_stochastic(to, value, bits);
    } else if (value != value) {
        to.bits = 0x7fc0;
        rest[i] = 0;
    } else {
        u32 exact = __float_as_uint(value);
        to.bits = (u16)((exact + 0x8000u) >> 16);
        rest[i] = (u16)exact;
    }
}

// Updates both moments; the parameter's next value.
DEVICE float adamw_value(
    float value, float slope, float& m, float& v, float beta1, float beta2, float eps, float decay, float step_size,
    float root_correction
) {
    m += (slope - m) * (1.0f - beta1);
    v = v * beta2 + slope * slope * (1.0f - beta2);
    return value * decay - step_size * m / (sqrtf(v) / root_correction + eps);
}

// What gradients are multiplied with, in every thread: the CPU's clip by the norm of all, whose square lies on the device
// so that no step waits for it; 0 leaves them.
DEVICE float clip(const double* squares, float max_grad_norm) {
    __shared__ float scale;
    if (threadIdx.x == 0) {
        scale = max_grad_norm == 0.0f ? 1.0f : (float)fmin(max_grad_norm / (sqrt(*squares) + 1e-6), 1.0);
    }
    __syncthreads();
    return scale;
}

// `seed` is the noise's: it differs between parameters and steps; `offset` is the first value's number in a parameter of
// which only a part is here.
KERNEL(256)
adamw(
    T* param, u16* rest, const G* grad, M* first, M* second, const double* squares, u64 count, u32 seed, u32 offset,
    float max_grad_norm, float beta1, float beta2, float eps, float decay, float step_size, float root_correction
) {
    float grad_scale = clip(squares, max_grad_norm);
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x) {
        float slope = to_float(grad[i]) * grad_scale;
        float m = to_float(first[i]), v = to_float(second[i]);
        float value = adamw_value(master(param[i], rest, i), slope, m, v, beta1, beta2, eps, decay, step_size, root_correction);
        store_master(param[i], rest, i, value, noise(seed, offset + i));
        u32 bits = noise(~seed, offset + i);
        store_stochastic(first[i], m, bits);
        store_stochastic(second[i], v, bits >> 16);
    }
}
