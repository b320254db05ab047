// What an adapter adds to some rows and columns of a product, and its adjoint. One block a row.

// out = x, plus scale · delta in the `count` columns from `first` on, in the `rows` rows from `first_row` on.
KERNEL(128)
add_columns(T* out, const T* x, const T* delta, u32 cols, u32 first_row, u32 rows, u32 first, u32 count, float scale) {
    size_t at = (size_t)blockIdx.x * cols;
    // Wraps around before `first_row`.
    u32 row = blockIdx.x - first_row;
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
        float value = to_float(x[at + col]);
        // Wraps around below `first`.
        u32 column = col - first;
        if (column < count && row < rows) value += scale * to_float(delta[(size_t)row * count + column]);
        store(out[at + col], value);
    }
}

// out = scale · the `count` columns of `grad` from `first` on, of the rows from `first_row` on.
KERNEL(128)
add_columns_adjoint(T* out, const T* grad, u32 cols, u32 first_row, u32 first, u32 count, float scale) {
    const T* from = grad + ((size_t)first_row + blockIdx.x) * cols + first;
    for (u32 col = threadIdx.x; col < count; col += blockDim.x) {
        store(out[(size_t)blockIdx.x * count + col], scale * to_float(from[col]));
    }
}
