// Causal attention of ragged bf16 rows on the tensor cores, flash style (arXiv 2307.08691): a block has 64 rows of one
// document and head, 16 of them a warp; scores exist for 64 keys at a time and stay in registers.
// Tiles of TILE_ROWS rows. Heads of 64 and 128 columns.

const u32 TILE_ROWS = 64;
const float LOG2_E = 1.44269504f;

// Columns of a row in shared memory: 16 bytes more than a head, so that eight rows lie in different banks.
template <u32 D>
struct SharedRow {
    static const u32 value = D + 8;
};

// Starts to copy `count` rows of a head, at most TILE_ROWS; the others become zeros. All 128 threads.
template <u32 D>
DEVICE void copy_rows(bf16* shared, const bf16* from, size_t stride, u32 count) {
    const u32 CHUNKS = D / 8;
#pragma unroll
    for (u32 i = 0; i < TILE_ROWS * CHUNKS / 128; i++) {
        u32 index = i * 128 + threadIdx.x, row = index / CHUNKS, col = index % CHUNKS * 8;
        bool valid = row < count;
        copy_async(shared + row * SharedRow<D>::value + col, from + (valid ? row : 0) * stride + col, valid);
    }
}

// Rows row .. row + 16 and columns col .. col + 16 as the left operand.
template <u32 D>
DEVICE void left_operand(u32 (&to)[4], const bf16* shared, u32 row, u32 col) {
    u32 matrix = lane_index() / 8, line = lane_index() % 8;
    load_matrices(to, shared + (row + matrix % 2 * 8 + line) * SharedRow<D>::value + col + matrix / 2 * 8);
}

// 16 rows and 16 columns as two right operands whose k is the column: the rows are the columns of the product.
template <u32 D>
DEVICE void right_operand(u32 (&to)[4], const bf16* shared, u32 row, u32 col) {
    u32 matrix = lane_index() / 8, line = lane_index() % 8;
    load_matrices(to, shared + (row + matrix / 2 * 8 + line) * SharedRow<D>::value + col + matrix % 2 * 8);
}

// 16 rows and 16 columns as two right operands whose k is the row.
template <u32 D>
DEVICE void right_operand_transposed(u32 (&to)[4], const bf16* shared, u32 row, u32 col) {
    u32 matrix = lane_index() / 8, line = lane_index() % 8;
    load_matrices_transposed(to, shared + (row + matrix % 2 * 8 + line) * SharedRow<D>::value + col + matrix / 2 * 8);
}

// products[n] += rows row .. row + 16 of `a` times row first + 8n .. of `b`, over all columns. N is even.
template <u32 D, u32 N>
DEVICE void multiply_rows(float (&products)[N][4], const bf16* a, u32 row, const bf16* b, u32 first) {
#pragma unroll
    for (u32 col = 0; col < D; col += 16) {
        u32 left[4];
        left_operand<D>(left, a, row, col);
#pragma unroll
        for (u32 n = 0; n < N; n += 2) {
            u32 right[4];
            right_operand<D>(right, b, first + n * 8, col);
            multiply_add(products[n], left, right[0], right[1]);
            multiply_add(products[n + 1], left, right[2], right[3]);
        }
    }
}

// sums += the matrix of 16 × 8N factors, rounded to bf16, times rows first .. first + 8N of `b`. N is even.
template <u32 D, u32 N>
DEVICE void multiply_factors(float (&sums)[D / 8][4], const float (&factors)[N][4], const bf16* b, u32 first) {
#pragma unroll
    for (u32 n = 0; n < N; n += 2) {
        // What a product left in a lane is what the next takes as its left operand.
        u32 left[4] = {
            pack_bf16(factors[n][0], factors[n][1]), pack_bf16(factors[n][2], factors[n][3]),
            pack_bf16(factors[n + 1][0], factors[n + 1][1]), pack_bf16(factors[n + 1][2], factors[n + 1][3])
        };
#pragma unroll
        for (u32 col = 0; col < D; col += 16) {
            u32 right[4];
            right_operand_transposed<D>(right, b, first + n * 8, col);
            multiply_add(sums[col / 8], left, right[0], right[1]);
            multiply_add(sums[col / 8 + 1], left, right[2], right[3]);
        }
    }
}

// A warp's 16 rows of sums, times a factor for each half, to rows `stride` apart of which `count` exist.
template <u32 D>
DEVICE void store_rows(bf16* out, size_t stride, u32 count, const float (&sums)[D / 8][4], float upper, float lower) {
    u32 row = lane_index() / 4, col = lane_index() % 4 * 2;
#pragma unroll
    for (u32 n = 0; n < D / 8; n++) {
        if (row < count) *(u32*)(out + row * stride + n * 8 + col) = pack_bf16(sums[n][0] * upper, sums[n][1] * upper);
        if (row + 8 < count) {
            *(u32*)(out + (row + 8) * stride + n * 8 + col) = pack_bf16(sums[n][2] * lower, sums[n][3] * lower);
        }
    }
}

// Largest, or sum, over the four lanes that share a row of a product.
DEVICE float quad_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, 1));
    return fmaxf(value, __shfl_xor_sync(FULL_WARP, value, 2));
}

DEVICE float quad_sum(float value) {
    value += __shfl_xor_sync(FULL_WARP, value, 1);
    return value + __shfl_xor_sync(FULL_WARP, value, 2);
}

template <u32 D>
DEVICE void attend(
    bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v, Tile tile, u32 q_stride, u32 kv_stride,
    float scale
) {
    const u32 KEYS = TILE_ROWS;
    DYNAMIC_SHARED(bf16, shared);
    bf16* shared_k = shared;
    // The queries' place becomes the values': they go to registers first.
    bf16* shared_v = shared + KEYS * SharedRow<D>::value;
    u32 seen = tile.position + tile.rows, warp_row = warp_index() * 16;
    copy_rows<D>(shared_v, q, q_stride, tile.rows);
    copy_commit();
    copy_rows<D>(shared_k, k, kv_stride, seen < KEYS ? seen : KEYS);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    u32 query[D / 16][4];
#pragma unroll
    for (u32 i = 0; i < D / 16; i++) left_operand<D>(query[i], shared_v, warp_row, i * 16);

    float sums[D / 8][4] = {};
    float largest[2] = {NOTHING, NOTHING}, total[2] = {0.0f, 0.0f};
    u32 row = warp_row + lane_index() / 4, column = lane_index() % 4 * 2;
    for (u32 first = 0; first < seen; first += KEYS) {
        // No warp still reads what is overwritten here.
        __syncthreads();
        copy_rows<D>(shared_v, v + (size_t)first * kv_stride, kv_stride, seen - first);
        copy_commit();
        copy_wait<1>();
        __syncthreads();
        float scores[KEYS / 8][4] = {};
#pragma unroll
        for (u32 i = 0; i < D / 16; i++) {
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n += 2) {
                u32 right[4];
                right_operand<D>(right, shared_k, n * 8, i * 16);
                multiply_add(scores[n], query[i], right[0], right[1]);
                multiply_add(scores[n + 1], query[i], right[2], right[3]);
            }
        }
        __syncthreads();
        u32 next = first + KEYS;
        if (next < seen) copy_rows<D>(shared_k, k + (size_t)next * kv_stride, kv_stride, seen - next);
        copy_commit();

        if (next > tile.position + warp_row) {
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (u32 i = 0; i < 4; i++) {
                    if (first + n * 8 + column + i % 2 > tile.position + row + i / 2 * 8) scores[n][i] = NOTHING;
                }
            }
        }
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            float above = largest[half];
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n++) {
                above = fmaxf(above, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
            }
            above = quad_max(above);
            float shrink = exp2f((largest[half] - above) * scale * LOG2_E), sum = 0.0f;
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (u32 i = 2 * half; i < 2 * half + 2; i++) {
                    scores[n][i] = exp2f((scores[n][i] - above) * scale * LOG2_E);
                    sum += scores[n][i];
                }
            }
#pragma unroll
            for (u32 n = 0; n < D / 8; n++) {
                sums[n][2 * half] *= shrink;
                sums[n][2 * half + 1] *= shrink;
            }
            total[half] = total[half] * shrink + sum;
            largest[half] = above;
        }
        copy_wait<1>();
        __syncthreads();
        multiply_factors<D>(sums, scores, shared_v, 0);
    }
    u32 heads = gridDim.y;
    total[0] = quad_sum(total[0]);
    total[1] = quad_sum(total[1]);
    if (lse != nullptr && lane_index() % 4 == 0) {
        float* to = lse + (size_t)(tile.first + row) * heads + blockIdx.y;
        if (row < tile.rows) to[0] = largest[0] * scale + logf(total[0]);
        if (row + 8 < tile.rows) to[(size_t)8 * heads] = largest[1] * scale + logf(total[1]);
    }
    bf16* to = out + ((size_t)(tile.first + warp_row) * heads + blockIdx.y) * D;
    store_rows<D>(
        to, (size_t)heads * D, tile.rows > warp_row ? tile.rows - warp_row : 0, sums, 1.0f / total[0], 1.0f / total[1]
    );
}

#define ATTENTION_TILED(D)                                                                                         \
    KERNEL(128)                                                                                                    \
    attention_tiled_##D(                                                                                           \
        bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v, const u32* tiles, u32 q_stride,        \
        u32 kv_stride, u32 group, float scale                                                                      \
    ) {                                                                                                            \
        Tile tile = tile_at(tiles, blockIdx.x);                                                                    \
        size_t kv = (size_t)tile.keys * kv_stride + blockIdx.y / group * D;                                        \
        attend<D>(                                                                                                 \
            out, lse, q + (size_t)tile.first * q_stride + blockIdx.y * D, k + kv, v + kv, tile, q_stride,          \
            kv_stride, scale                                                                                       \
        );                                                                                                         \
    }

ATTENTION_TILED(64)
ATTENTION_TILED(128)
