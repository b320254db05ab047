// Causal attention of ragged rows for every width of head and both formats: one block a row and head, whose warps
// share the keys. It is the way of decoding, where it is bound by the cache's memory, and the plain way of the rest.
//
// A batch is a list of tiles, TILE_WORDS words each: some rows of one document.

const u32 TILE_WORDS = 5;

struct Tile {
    // First row of the tile, and number of rows.
    u32 first, rows;
    // Position of the first row in its document: it sees as many keys and its own.
    u32 position;
    // Row of the document's first key.
    u32 keys;
    // Row after the document's last.
    u32 end;
};

DEVICE Tile tile_at(const u32* tiles, u32 index) {
    const u32* words = tiles + index * TILE_WORDS;
    Tile tile = {words[0], words[1], words[2], words[3], words[4]};
    return tile;
}

// Values of a head that a lane holds: lane, lane + 32, …
const u32 LANE_VALUES = 8;
const u32 WIDEST_HEAD = 32 * LANE_VALUES;
const u32 ATTENTION_WARPS = 8;

struct HeadVector {
    float values[LANE_VALUES];
};

DEVICE HeadVector head_vector(const T* from, u32 head_dim) {
    HeadVector vector;
#pragma unroll
    for (u32 i = 0; i < LANE_VALUES; i++) {
        u32 col = lane_index() + 32 * i;
        vector.values[i] = col < head_dim ? to_float(from[col]) : 0.0f;
    }
    return vector;
}

DEVICE float dot(const HeadVector& a, const HeadVector& b) {
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < LANE_VALUES; i++) sum += a.values[i] * b.values[i];
    return warp_sum(sum);
}

DEVICE void add_scaled(HeadVector& to, float factor, const HeadVector& from) {
#pragma unroll
    for (u32 i = 0; i < LANE_VALUES; i++) to.values[i] += factor * from.values[i];
}

// The sum over the warps, in their order, of each warp's vector times its factor; to `out` as T.
DEVICE void store_warp_sum(T* out, const HeadVector& mine, float factor, u32 head_dim) {
    __shared__ float parts[ATTENTION_WARPS][WIDEST_HEAD];
    __syncthreads();
#pragma unroll
    for (u32 i = 0; i < LANE_VALUES; i++) parts[warp_index()][lane_index() + 32 * i] = mine.values[i] * factor;
    __syncthreads();
    for (u32 col = threadIdx.x; col < head_dim; col += blockDim.x) {
        float sum = 0.0f;
        for (u32 warp = 0; warp < ATTENTION_WARPS; warp++) sum += parts[warp][col];
        store(out[col], sum);
    }
}

// out [rows, heads · head_dim]; lse (or null) [rows, heads]: the logarithm of the sum of exp(score). Tiles of one row.
// q, k and v are those of head 0; neighbouring rows are q_stride, kv_stride apart, neighbouring heads head_dim.
KERNEL(256)
attention(
    T* out, float* lse, const T* q, const T* k, const T* v, const u32* tiles, u32 q_stride, u32 kv_stride, u32 group,
    u32 head_dim, float scale
) {
    Tile tile = tile_at(tiles, blockIdx.x);
    u32 head = blockIdx.y, heads = gridDim.y;
    size_t kv = (size_t)tile.keys * kv_stride + head / group * head_dim;
    HeadVector query = head_vector(q + (size_t)tile.first * q_stride + head * head_dim, head_dim);
    HeadVector sum = {};
    float largest = NOTHING, total = 0.0f;
    for (u32 key = warp_index(); key <= tile.position; key += ATTENTION_WARPS) {
        size_t at = kv + (size_t)key * kv_stride;
        float score = dot(query, head_vector(k + at, head_dim)) * scale;
        HeadVector value = head_vector(v + at, head_dim);
        float above = fmaxf(largest, score);
        float shrink = expf(largest - above), weight = expf(score - above);
#pragma unroll
        for (u32 i = 0; i < LANE_VALUES; i++) sum.values[i] = sum.values[i] * shrink + weight * value.values[i];
        total = total * shrink + weight;
        largest = above;
    }
    float overall = block_max(largest);
    float factor = expf(largest - overall);
    // Every lane of a warp has the warp's total.
    float whole = block_sum(lane_index() == 0 ? total * factor : 0.0f);
    if (lse != nullptr && threadIdx.x == 0) lse[(size_t)tile.first * heads + head] = overall + logf(whole);
    store_warp_sum(out + ((size_t)tile.first * heads + head) * head_dim, sum, factor / whole, head_dim);
}
