// The sum of squares in f64, in an order that depends on the length alone.

DEVICE double block_sum_f64(double value) {
    __shared__ double parts[256];
    parts[threadIdx.x] = value;
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    __syncthreads();
    return parts[0];
}

// parts[b] = the share of block b.
KERNEL(256) squared_norm(double* parts, const G* values, u64 count) {
    double sum = 0.0;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x) {
        double value = to_float(values[i]);
        sum += value * value;
    }
    sum = block_sum_f64(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// total[0] += the sum of `count` parts. One block.
KERNEL(256) squared_norm_total(double* total, const double* parts, u32 count) {
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) sum += parts[i];
    sum = block_sum_f64(sum);
    if (threadIdx.x == 0) total[0] += sum;
}
