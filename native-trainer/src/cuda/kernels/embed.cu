// Rows of the embedding table, and their gradient.

// out[i] = table[ids[i]]; one block a row. An id beyond the table (the mark of a failed choice) reads row 0.
KERNEL(128) embed(T* out, const T* table, const u32* ids, u32 rows, u32 cols) {
    u32 id = ids[blockIdx.x];
    const T* from = table + (size_t)(id < rows ? id : 0) * cols;
    T* to = out + (size_t)blockIdx.x * cols;
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) to[col] = from[col];
}

// to[targets[u]] += sum of from[sources[s]], s in offsets[u] .. offsets[u + 1]: in the order of the list, so without
// atomics and always with the same bits. One block a target.
template <class V>
DEVICE void gather_add(V* to, const T* from, const u32* targets, const u32* offsets, const u32* sources, u32 cols) {
    u32 begin = offsets[blockIdx.x], end = offsets[blockIdx.x + 1];
    V* row = to + (size_t)targets[blockIdx.x] * cols;
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
        float sum = 0.0f;
        for (u32 s = begin; s < end; s++) sum += to_float(from[(size_t)sources[s] * cols + col]);
        store(row[col], to_float(row[col]) + sum);
    }
}

KERNEL(128)
embed_adjoint(G* table, const T* grad, const u32* targets, const u32* offsets, const u32* sources, u32 cols) {
    gather_add(table, grad, targets, offsets, sources, cols);
}
