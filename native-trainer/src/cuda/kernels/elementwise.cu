// add, relu, dropout and changes of format: a thread has every (number of threads)-th value.

#define EACH(index, count)                                                                                    \
    for (size_t index = (size_t)blockIdx.x * blockDim.x + threadIdx.x; index < count; \
         index += (size_t)gridDim.x * blockDim.x)

// `out` may be `a`.
KERNEL(256) add(T* out, const T* a, const T* b, u64 count) {
    EACH(i, count) store(out[i], to_float(a[i]) + to_float(b[i]));
}

KERNEL(256) relu(T* out, const T* x, u64 count) {
    EACH(i, count) store(out[i], fmaxf(to_float(x[i]), 0.0f));
}

KERNEL(256) relu_adjoint(T* out, const T* x, const T* grad, u64 count) {
    EACH(i, count) store(out[i], to_float(x[i]) > 0.0f ? to_float(grad[i]) : 0.0f);
}

// Value `column` of a row is dropped where a hash of it and the row's key is below `threshold`. The twin of
// learn/src/dropout.rs.
KERNEL(256) dropout(T* out, const T* x, const u32* keys, u64 count, u32 cols, u32 seed, u32 threshold, float scale) {
    EACH(i, count) {
        u32 bits = pcg((u32)(i % cols) ^ pcg(keys[i / cols] ^ seed));
        store(out[i], bits >= threshold ? to_float(x[i]) * scale : 0.0f);
    }
}

KERNEL(256) narrow(T* out, const float* x, u64 count) {
    EACH(i, count) store(out[i], x[i]);
}

KERNEL(256) widen(float* out, const T* x, u64 count) {
    EACH(i, count) out[i] = to_float(x[i]);
}
