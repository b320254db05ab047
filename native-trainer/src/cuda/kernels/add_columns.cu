// What an adapter adds to some columns of a product, and its adjoint. One block a row.

// out = x, plus scale · delta in the `count` columns from `first` on.
KERNEL(128)
add_columns(T* out, const T* x, const T* delta, u32 cols, u32 first, u32 count, float scale) {
    size_t at = (size_t)blockIdx.x * cols;
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
        float value = to_float(x[at + col]);
        // Wraps around below `first`.
        u32 column = col - first;
        if (column < count) value += scale * to_float(delta[(size_t)blockIdx.x * count + column]);
        store(out[at + col], value);
    }
}

// out = scale · the `count` columns of `grad` from `first` on.
KERNEL(128)
add_columns_adjoint(T* out, const T* grad, u32 cols, u32 first, u32 count, float scale) {
    const T* from = grad + (size_t)blockIdx.x * cols + first;
    for (u32 col = threadIdx.x; col < count; col += blockDim.x) {
        store(out[(size_t)blockIdx.x * count + col], scale * to_float(from[col]));
    }
}
