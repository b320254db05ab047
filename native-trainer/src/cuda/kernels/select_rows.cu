// Chosen rows, and their gradient.

// out[i] = x[rows[i]]; one block a row.
KERNEL(128) select_rows(T* out, const T* x, const u32* rows, u32 cols) {
    const T* from = x + (size_t)rows[blockIdx.x] * cols;
    T* to = out + (size_t)blockIdx.x * cols;
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) to[col] = from[col];
}

// `out` is zeros before; a row may have been chosen several times.
KERNEL(128)
select_rows_adjoint(T* out, const T* grad, const u32* targets, const u32* offsets, const u32* sources, u32 cols) {
    gather_add(out, grad, targets, offsets, sources, cols);
}
