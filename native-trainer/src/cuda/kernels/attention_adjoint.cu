// Adjoint of causal attention for every width of head and both formats. With p the weights, o the outputs and
// delta = Σ grad · o of a query: dv = pᵀ grad, ds = p · (grad vᵀ - delta), dq = ds k / √d, dk = dsᵀ q / √d.
// The weights are computed anew from lse. Each gradient is summed by one block in a fixed order: no atomics.

// delta[row, head] = Σ grad · out of that head: one warp each.
KERNEL(256) attention_delta(float* delta, const T* out, const T* grad, u32 count, u32 head_dim) {
    u32 index = blockIdx.x * (blockDim.x / 32) + warp_index();
    if (index >= count) return;
    size_t at = (size_t)index * head_dim;
    float sum = dot(head_vector(out + at, head_dim), head_vector(grad + at, head_dim));
    if (lane_index() == 0) delta[index] = sum;
}

// One block a row and head; tiles of one row. The gradient goes to the q columns of `out`, fused rows as `qkv`.
KERNEL(256)
attention_query_adjoint(
    T* out, const T* qkv, const T* grad, const float* lse, const float* delta, const u32* tiles, u32 kv_heads,
    u32 head_dim, float scale
) {
    Tile tile = tile_at(tiles, blockIdx.x);
    u32 head = blockIdx.y, heads = gridDim.y;
    u32 q_dim = heads * head_dim, kv_dim = kv_heads * head_dim, stride = q_dim + 2 * kv_dim;
    size_t row = tile.first;
    const T* keys = qkv + (size_t)tile.keys * stride + q_dim + head / (heads / kv_heads) * head_dim;
    HeadVector query = head_vector(qkv + row * stride + head * head_dim, head_dim);
    HeadVector slope = head_vector(grad + row * q_dim + head * head_dim, head_dim);
    float total = lse[row * heads + head], mean = delta[row * heads + head];
    HeadVector sum = {};
    for (u32 key = warp_index(); key <= tile.position; key += ATTENTION_WARPS) {
        HeadVector k = head_vector(keys + (size_t)key * stride, head_dim);
        HeadVector v = head_vector(keys + (size_t)key * stride + kv_dim, head_dim);
        float weight = expf(dot(query, k) * scale - total);
        add_scaled(sum, weight * (dot(slope, v) - mean), k);
    }
    store_warp_sum(out + row * stride + head * head_dim, sum, scale, head_dim);
}

// One block a key and key head; tiles of one row. The gradients go to the k and v columns of `out`.
KERNEL(256)
attention_key_adjoint(
    T* out, const T* qkv, const T* grad, const float* lse, const float* delta, const u32* tiles, u32 heads,
    u32 head_dim, float scale
) {
    Tile tile = tile_at(tiles, blockIdx.x);
    u32 kv_head = blockIdx.y, kv_heads = gridDim.y, group = heads / kv_heads;
    u32 q_dim = heads * head_dim, kv_dim = kv_heads * head_dim, stride = q_dim + 2 * kv_dim;
    size_t at = (size_t)tile.first * stride + q_dim + kv_head * head_dim;
    HeadVector k = head_vector(qkv + at, head_dim), v = head_vector(qkv + at + kv_dim, head_dim);
    HeadVector key_sum = {}, value_sum = {};
    u32 queries = (tile.end - tile.first) * group;
    for (u32 index = warp_index(); index < queries; index += ATTENTION_WARPS) {
        size_t row = tile.first + index / group;
        u32 head = kv_head * group + index % group;
        HeadVector query = head_vector(qkv + row * stride + head * head_dim, head_dim);
        HeadVector slope = head_vector(grad + row * q_dim + head * head_dim, head_dim);
        float weight = expf(dot(query, k) * scale - lse[row * heads + head]);
        add_scaled(value_sum, weight, slope);
        add_scaled(key_sum, weight * (dot(slope, v) - delta[row * heads + head]), query);
    }
    store_warp_sum(out + at, key_sum, scale, head_dim);
    store_warp_sum(out + at + kv_dim, value_sum, 1.0f, head_dim);
}
