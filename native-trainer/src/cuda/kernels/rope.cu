// Rotary position embedding (arXiv 2104.09864) of the q and k heads of fused rows [q | k | v]; v passes.
// Pairs are half-split: (i, i + head_dim/2). `direction` is 1, or -1 for the adjoint.
// One block a row; threads x have a pair, threads y share the heads.
KERNEL(256)
rope(
    T* out, const T* qkv, const float* frequencies, const u32* positions, u32 rotated, u32 head_dim, u32 width,
    float direction
) {
    u32 half = head_dim / 2;
    const T* from = qkv + (size_t)blockIdx.x * width;
    T* to = out + (size_t)blockIdx.x * width;
    float position = (float)positions[blockIdx.x];
    for (u32 i = threadIdx.x; i < half; i += blockDim.x) {
        float angle = position * frequencies[i];
        float s = sinf(angle) * direction, c = cosf(angle);
        for (u32 head = threadIdx.y; head < rotated; head += blockDim.y) {
            u32 at = head * head_dim + i;
            float a = to_float(from[at]), b = to_float(from[at + half]);
            store(to[at], a * c - b * s);
            store(to[at + half], b * c + a * s);
        }
    }
    u32 thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    // What no pair has: v, and the last column of heads of odd width.
    for (u32 col = rotated * head_dim + thread; col < width; col += threads) to[col] = from[col];
    if (head_dim % 2 == 1) {
        for (u32 head = thread; head < rotated; head += threads) {
            to[head * head_dim + head_dim - 1] = from[head * head_dim + head_dim - 1];
        }
    }
}
