// Biases, and sums over rows that are made in parts.

// x[row] += bias; one block for 256 columns of a row.
KERNEL(256) add_bias(T* x, const T* bias, u32 cols) {
    u32 col = blockIdx.y * blockDim.x + threadIdx.x;
    if (col < cols) {
        T& value = x[(size_t)blockIdx.x * cols + col];
        store(value, to_float(value) + to_float(bias[col]));
    }
}

// parts[p] = sum of the rows of `grad` that part p of `gridDim.x` has; a thread has a column.
KERNEL(256) bias_adjoint(float* parts, const T* grad, u32 rows, u32 cols) {
    u32 col = blockIdx.y * blockDim.x + threadIdx.x;
    if (col >= cols) return;
    float sum = 0.0f;
    for (u32 row = blockIdx.x; row < rows; row += gridDim.x) sum += to_float(grad[(size_t)row * cols + col]);
    parts[(size_t)blockIdx.x * cols + col] = sum;
}

// to += the sum of `count` parts, in order.
KERNEL(256) add_parts(G* to, const float* parts, u32 count, u32 cols) {
    u32 col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= cols) return;
    float sum = 0.0f;
    for (u32 part = 0; part < count; part++) sum += parts[(size_t)part * cols + col];
    store(to[col], to_float(to[col]) + sum);
}
