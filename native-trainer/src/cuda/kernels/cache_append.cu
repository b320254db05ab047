// Stores the k and v columns of fused rows in the slots of the cache: one block a row.
KERNEL(128)
cache_append(T* keys, T* values, const T* qkv, const u32* slots, u32 q_dim, u32 kv_dim) {
    const T* k = qkv + (size_t)blockIdx.x * (q_dim + 2 * kv_dim) + q_dim;
    size_t slot = (size_t)slots[blockIdx.x] * kv_dim;
    for (u32 col = threadIdx.x; col < kv_dim; col += blockDim.x) {
        keys[slot + col] = k[col];
        values[slot + col] = k[kv_dim + col];
    }
}
