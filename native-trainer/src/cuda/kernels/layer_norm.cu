// LayerNorm (arXiv 1607.06450). One block takes a row at a time.

struct Statistics {
    float mean;
    // One over the deviation.
    float r;
};

DEVICE Statistics statistics(const T* x, u32 cols, float eps) {
    float sum = 0.0f;
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) sum += to_float(x[col]);
    float mean = block_sum(sum) / (float)cols;
    float squares = 0.0f;
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
        float centred = to_float(x[col]) - mean;
        squares += centred * centred;
    }
    Statistics found = {mean, 1.0f / sqrtf(block_sum(squares) / (float)cols + eps)};
    return found;
}

KERNEL(128) layer_norm(T* out, const T* x, const T* gain, const T* bias, u32 cols, float eps) {
    const T* row = x + (size_t)blockIdx.x * cols;
    Statistics s = statistics(row, cols, eps);
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
        float value = (to_float(row[col]) - s.mean) * s.r * to_float(gain[col]) + to_float(bias[col]);
        store(out[(size_t)blockIdx.x * cols + col], value);
    }
}

// With y = (x - mean) · r and h = gain · grad: dx = r · (h - mean(h) - y · mean(h · y)), dgain = Σ grad · y.
// Block b takes rows b, b + blocks, …; its share of dgain is row b of gain_parts. Shared: cols floats.
KERNEL(128)
layer_norm_adjoint(
    T* out, float* gain_parts, const T* x, const T* gain, const T* grad, u32 rows, u32 cols, float eps
) {
    DYNAMIC_SHARED(float, gain_sums);
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) gain_sums[col] = 0.0f;
    for (u32 row = blockIdx.x; row < rows; row += gridDim.x) {
        size_t at = (size_t)row * cols;
        Statistics s = statistics(x + at, cols, eps);
        float h_sum = 0.0f, hy_sum = 0.0f;
        for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
            float h = to_float(gain[col]) * to_float(grad[at + col]);
            h_sum += h;
            hy_sum += h * (to_float(x[at + col]) - s.mean) * s.r;
        }
        float h_mean = block_sum(h_sum) / (float)cols;
        float hy_mean = block_sum(hy_sum) / (float)cols;
        for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
            float slope = to_float(grad[at + col]);
            float y = (to_float(x[at + col]) - s.mean) * s.r;
            store(out[at + col], s.r * (to_float(gain[col]) * slope - h_mean - y * hy_mean));
            // This thread alone has this column.
            gain_sums[col] += slope * y;
        }
    }
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
        gain_parts[(size_t)blockIdx.x * cols + col] = gain_sums[col];
    }
}
