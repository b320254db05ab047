// Adjoint of causal attention on bf16 rows on the tensor cores; formulas as in attention_adjoint.cu. One kernel has a
// block for 64 queries, the other for 64 keys, so each gradient is summed in a fixed order by the block that owns it:
// seven products where atomics would need five, and always the same bits.

// What a block reads: fused rows, and what belongs to each query.
struct AdjointInput {
    const bf16* qkv;
    const bf16* grad;
    const float* lse;
    const float* delta;
    u32 heads, kv_heads;
    float scale;
};

// Scores become weights; slopes become ds. `weight` is exp(score - lse), 0 for keys that a query does not see.
DEVICE void weigh(float& score, float& slope, float scale, float lse, float delta, bool visible) {
    score = visible ? exp2f((score * scale - lse) * LOG2_E) : 0.0f;
    slope = score * (slope - delta);
}

template <u32 D>
DEVICE void adjoin_queries(bf16* out, const AdjointInput& in, Tile tile, u32 head) {
    const u32 SIZE = TILE_ROWS * SharedRow<D>::value, KEYS = 32;
    DYNAMIC_SHARED(bf16, shared);
    bf16 *shared_q = shared, *shared_grad = shared + SIZE, *shared_k = shared + 2 * SIZE, *shared_v = shared + 3 * SIZE;
    u32 q_dim = in.heads * D, kv_dim = in.kv_heads * D, stride = q_dim + 2 * kv_dim;
    const bf16* keys = in.qkv + (size_t)tile.keys * stride + q_dim + head / (in.heads / in.kv_heads) * D;
    copy_rows<D>(shared_q, in.qkv + (size_t)tile.first * stride + head * D, stride, tile.rows);
    copy_rows<D>(shared_grad, in.grad + (size_t)tile.first * q_dim + head * D, q_dim, tile.rows);

    u32 warp_row = warp_index() * 16, row = warp_row + lane_index() / 4, column = lane_index() % 4 * 2;
    float lse[2] = {}, delta[2] = {};
    for (u32 half = 0; half < 2; half++) {
        if (row + half * 8 < tile.rows) {
            size_t at = (size_t)(tile.first + row + half * 8) * in.heads + head;
            lse[half] = in.lse[at];
            delta[half] = in.delta[at];
        }
    }
    float sums[D / 8][4] = {};
    u32 seen = tile.position + tile.rows;
    for (u32 first = 0; first < seen; first += TILE_ROWS) {
        __syncthreads();
        copy_rows<D>(shared_k, keys + (size_t)first * stride, stride, seen - first);
        copy_rows<D>(shared_v, keys + (size_t)first * stride + kv_dim, stride, seen - first);
        copy_commit();
        copy_wait<0>();
        __syncthreads();
#pragma unroll 1
        for (u32 part = 0; part < TILE_ROWS; part += KEYS) {
            float scores[KEYS / 8][4] = {}, slopes[KEYS / 8][4] = {};
            multiply_rows<D>(scores, shared_q, warp_row, shared_k, part);
            multiply_rows<D>(slopes, shared_grad, warp_row, shared_v, part);
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (u32 i = 0; i < 4; i++) {
                    bool visible = first + part + n * 8 + column + i % 2 <= tile.position + row + i / 2 * 8;
                    weigh(scores[n][i], slopes[n][i], in.scale, lse[i / 2], delta[i / 2], visible);
                }
            }
            multiply_factors<D>(sums, slopes, shared_k, part);
        }
    }
    bf16* to = out + (size_t)(tile.first + warp_row) * stride + head * D;
    store_rows<D>(to, stride, tile.rows > warp_row ? tile.rows - warp_row : 0, sums, in.scale, in.scale);
}

template <u32 D>
DEVICE void adjoin_keys(bf16* out, const AdjointInput& in, Tile tile, u32 kv_head) {
    const u32 SIZE = TILE_ROWS * SharedRow<D>::value, QUERIES = 16;
    DYNAMIC_SHARED(bf16, shared);
    bf16 *shared_k = shared, *shared_v = shared + SIZE, *shared_q = shared + 2 * SIZE, *shared_grad = shared + 3 * SIZE;
    __shared__ float lse[TILE_ROWS], delta[TILE_ROWS];
    u32 q_dim = in.heads * D, kv_dim = in.kv_heads * D, stride = q_dim + 2 * kv_dim, group = in.heads / in.kv_heads;
    size_t own = (size_t)tile.first * stride + q_dim + kv_head * D;
    copy_rows<D>(shared_k, in.qkv + own, stride, tile.rows);
    copy_rows<D>(shared_v, in.qkv + own + kv_dim, stride, tile.rows);

    u32 warp_row = warp_index() * 16, row = warp_row + lane_index() / 4, column = lane_index() % 4 * 2;
    float key_sums[D / 8][4] = {}, value_sums[D / 8][4] = {};
    for (u32 head = kv_head * group; head < (kv_head + 1) * group; head++) {
        // Rows before the tile see none of its keys.
        for (u32 first = tile.first; first < tile.end; first += TILE_ROWS) {
            u32 count = tile.end - first < TILE_ROWS ? tile.end - first : TILE_ROWS;
            __syncthreads();
            copy_rows<D>(shared_q, in.qkv + (size_t)first * stride + head * D, stride, count);
            copy_rows<D>(shared_grad, in.grad + (size_t)first * q_dim + head * D, q_dim, count);
            copy_commit();
            if (threadIdx.x < TILE_ROWS) {
                size_t at = (size_t)(first + threadIdx.x) * in.heads + head;
                lse[threadIdx.x] = threadIdx.x < count ? in.lse[at] : 0.0f;
                delta[threadIdx.x] = threadIdx.x < count ? in.delta[at] : 0.0f;
            }
            copy_wait<0>();
            __syncthreads();
#pragma unroll 1
            for (u32 part = 0; part < TILE_ROWS; part += QUERIES) {
                // Keys are the rows of these products, queries the columns.
                float scores[QUERIES / 8][4] = {}, slopes[QUERIES / 8][4] = {};
                multiply_rows<D>(scores, shared_k, warp_row, shared_q, part);
                multiply_rows<D>(slopes, shared_v, warp_row, shared_grad, part);
#pragma unroll
                for (u32 n = 0; n < QUERIES / 8; n++) {
#pragma unroll
                    for (u32 i = 0; i < 4; i++) {
                        u32 query = part + n * 8 + column + i % 2, key = row + i / 2 * 8;
                        bool visible = query < count && first - tile.first + query >= key;
                        weigh(scores[n][i], slopes[n][i], in.scale, lse[query], delta[query], visible);
                    }
                }
                multiply_factors<D>(value_sums, scores, shared_grad, part);
                multiply_factors<D>(key_sums, slopes, shared_q, part);
            }
        }
    }
    u32 count = tile.rows > warp_row ? tile.rows - warp_row : 0;
    bf16* to = out + own + (size_t)warp_row * stride;
    store_rows<D>(to, stride, count, key_sums, in.scale, in.scale);
    store_rows<D>(to + kv_dim, stride, count, value_sums, 1.0f, 1.0f);
}

// Grids: tiles × heads, and tiles × key heads.
#define ATTENTION_TILED_ADJOINT(D)                                                                                 \
    KERNEL(128)                                                                                                    \
    attention_tiled_query_adjoint_##D(                                                                             \
        bf16* out, const bf16* qkv, const bf16* grad, const float* lse, const float* delta, const u32* tiles,      \
        u32 kv_heads, float scale                                                                                  \
    ) {                                                                                                            \
        AdjointInput in = {qkv, grad, lse, delta, gridDim.y, kv_heads, scale};                                     \
        adjoin_queries<D>(out, in, tile_at(tiles, blockIdx.x), blockIdx.y);                                        \
    }                                                                                                              \
    KERNEL(128)                                                                                                    \
    attention_tiled_key_adjoint_##D(                                                                               \
        bf16* out, const bf16* qkv, const bf16* grad, const float* lse, const float* delta, const u32* tiles,      \
        u32 heads, float scale                                                                                     \
    ) {                                                                                                            \
        AdjointInput in = {qkv, grad, lse, delta, heads, gridDim.y, scale};                                        \
        adjoin_keys<D>(out, in, tile_at(tiles, blockIdx.x), blockIdx.y);                                           \
    }

ATTENTION_TILED_ADJOINT(64)
ATTENTION_TILED_ADJOINT(128)
