// RMSNorm (arXiv 1910.07467). One block takes a row at a time, N neighbouring values a thread.

template <u32 N>
DEVICE float inverse_rms(const T* x, u32 cols, float eps) {
    float squares = 0.0f;
    for (u32 col = threadIdx.x * N; col < cols; col += blockDim.x * N) {
        float values[N];
        load<N>(values, x + col);
        for (u32 i = 0; i < N; i++) squares += values[i] * values[i];
    }
    return 1.0f / sqrtf(block_sum(squares) / (float)cols + eps);
}

template <u32 N>
DEVICE void rms_norm_row(T* out, const T* x, const T* gain, u32 cols, float eps) {
    float r = inverse_rms<N>(x, cols, eps);
    for (u32 col = threadIdx.x * N; col < cols; col += blockDim.x * N) {
        float values[N], gains[N];
        load<N>(values, x + col);
        load<N>(gains, gain + col);
        for (u32 i = 0; i < N; i++) values[i] = values[i] * r * gains[i];
        store<N>(out + col, values);
    }
}

KERNEL(128) rms_norm(T* out, const T* x, const T* gain, u32 cols, float eps) {
    size_t at = (size_t)blockIdx.x * cols;
    if (cols % Width<T>::value == 0) {
        rms_norm_row<Width<T>::value>(out + at, x + at, gain, cols, eps);
    } else {
        rms_norm_row<1>(out + at, x + at, gain, cols, eps);
    }
}

// With r = 1/rms(x): dx = r · gain · grad - x · r³/n · Σ gain · grad · x, dgain = Σ grad · x · r.
template <u32 N>
DEVICE void rms_norm_adjoint_row(
    T* out, float* gain_sums, const T* x, const T* gain, const T* grad, u32 cols, float eps
) {
    float r = inverse_rms<N>(x, cols, eps);
    float along = 0.0f;
    for (u32 col = threadIdx.x * N; col < cols; col += blockDim.x * N) {
        float values[N], gains[N], grads[N];
        load<N>(values, x + col);
        load<N>(gains, gain + col);
        load<N>(grads, grad + col);
        for (u32 i = 0; i < N; i++) along += gains[i] * grads[i] * values[i];
    }
    along = block_sum(along) * r * r * r / (float)cols;
    for (u32 col = threadIdx.x * N; col < cols; col += blockDim.x * N) {
        float values[N], gains[N], grads[N];
        load<N>(values, x + col);
        load<N>(gains, gain + col);
        load<N>(grads, grad + col);
        for (u32 i = 0; i < N; i++) {
            gain_sums[col + i] += grads[i] * values[i] * r;
            values[i] = gains[i] * grads[i] * r - values[i] * along;
        }
        store<N>(out + col, values);
    }
}

// Block b takes rows b, b + blocks, …; its share of dgain is row b of gain_parts. Shared: cols floats.
KERNEL(128)
rms_norm_adjoint(
    T* out, float* gain_parts, const T* x, const T* gain, const T* grad, u32 rows, u32 cols, float eps
) {
    DYNAMIC_SHARED(float, gain_sums);
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) gain_sums[col] = 0.0f;
    __syncthreads();
    for (u32 row = blockIdx.x; row < rows; row += gridDim.x) {
        size_t at = (size_t)row * cols;
        if (cols % Width<T>::value == 0) {
            rms_norm_adjoint_row<Width<T>::value>(out + at, gain_sums, x + at, gain, grad + at, cols, eps);
        } else {
            rms_norm_adjoint_row<1>(out + at, gain_sums, x + at, gain, grad + at, cols, eps);
        }
    }
    __syncthreads();
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
        gain_parts[(size_t)blockIdx.x * cols + col] = gain_sums[col];
    }
}
