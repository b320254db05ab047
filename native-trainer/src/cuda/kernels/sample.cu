// The choice of the next tokens, as engine/src/backend/cpu/sample.rs makes it: penalty, temperature, top-k, top-p,
// min-p, then the highest sum of score and Gumbel noise. One block of 1024 threads per row.

KERNEL(256) set_seen(u32* seen, const u32* ids, u32 count) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) seen[ids[i]] = 1;
}

// Larger floats have larger keys.
DEVICE u32 order_key(float value) {
    u32 bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

struct Best {
    float score;
    u32 token;
};

DEVICE Best better(Best a, Best b) { return b.score > a.score || (b.score == a.score && b.token < a.token) ? b : a; }

DEVICE Best block_best(Best best) {
    __shared__ Best parts[1024];
    parts[threadIdx.x] = best;
    for (u32 half = 512; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] = better(parts[threadIdx.x], parts[threadIdx.x + half]);
    }
    __syncthreads();
    best = parts[0];
    __syncthreads();
    return best;
}

// What the tokens weigh together whose key is at least `key`: 1 each, or their share of the probability.
DEVICE float weight_from(const float* scores, u32 vocab, u32 key, bool mass) {
    float sum = 0.0f;
    for (u32 token = threadIdx.x; token < vocab; token += blockDim.x) {
        if (order_key(scores[token]) >= key) sum += mass ? expf(scores[token]) : 1.0f;
    }
    return block_sum(sum);
}

// The largest key, from `lowest` on, such that the tokens from it on weigh `goal`.
DEVICE u32 weighted_key(const float* scores, u32 vocab, u32 lowest, float goal, bool mass) {
    u32 key = 0;
    for (u32 bit = 0x80000000u; bit > 0; bit >>= 1) {
        u32 candidate = key | bit;
        if (candidate <= lowest || weight_from(scores, vocab, candidate, mass) >= goal) key = candidate;
    }
    return key > lowest ? key : lowest;
}

DEVICE float gumbel(u32 seed, u32 position, u32 token) {
    float uniform = ((float)(pcg(token ^ pcg(position ^ pcg(seed))) >> 9) + 0.5f) / 8388608.0f;
    return -logf(-logf(uniform));
}

// Words that say how the token of a row is chosen.
const u32 SAMPLE_WORDS = 8;

// `scores` and `seen` have room for the vocabulary in every slot. A logit that is no number makes the token 0xffffffff.
KERNEL(1024) sample(u32* out, float* scores, u32* seen, const T* logits, const u32* how, u32 vocab) {
    how += blockIdx.x * SAMPLE_WORDS;
    u32 slot = how[0], position = how[1], top_k = how[2], seed = how[3];
    float temperature = __uint_as_float(how[4]), top_p = __uint_as_float(how[5]);
    float log_min_p = __uint_as_float(how[6]), penalty = __uint_as_float(how[7]);
    out += blockIdx.x;
    logits += (size_t)blockIdx.x * vocab;
    scores += (size_t)slot * vocab;
    seen += (size_t)slot * vocab;
    Best best = {NOTHING, 0};
    float bad = 0.0f;
    for (u32 token = threadIdx.x; token < vocab; token += blockDim.x) {
        float logit = to_float(logits[token]);
        if (!(logit < 3.0e38f)) bad = 1.0f;
        if (seen[token] != 0) logit = logit > 0.0f ? logit / penalty : logit * penalty;
        scores[token] = logit;
        Best mine = {logit, token};
        best = better(best, mine);
    }
    best = block_best(best);
    if (block_max(bad) > 0.0f) {
        if (threadIdx.x == 0) out[0] = 0xffffffffu;
        return;
    }
    if (temperature > 0.0f) {
        // Relative to the largest, so that the coldest temperature does not overflow.
        for (u32 token = threadIdx.x; token < vocab; token += blockDim.x) {
            scores[token] = (scores[token] - best.score) / temperature;
        }
        __syncthreads();
        u32 lowest = 0;
        if (top_k > 0 && top_k < vocab) lowest = weighted_key(scores, vocab, 0, (float)top_k, false);
        if (top_p < 1.0f) {
            float kept = weight_from(scores, vocab, lowest, true);
            lowest = weighted_key(scores, vocab, lowest, top_p * kept, true);
        }
        u32 by_min_p = order_key(log_min_p);
        if (by_min_p > lowest) lowest = by_min_p;
        // The most probable token always stays: its score is 0.
        if (order_key(0.0f) < lowest) lowest = order_key(0.0f);
        Best drawn = {NOTHING, 0};
        for (u32 token = threadIdx.x; token < vocab; token += blockDim.x) {
            if (order_key(scores[token]) >= lowest) {
                Best mine = {scores[token] + gumbel(seed, position, token), token};
                drawn = better(drawn, mine);
            }
        }
        best = block_best(drawn);
    }
    if (threadIdx.x == 0) {
        out[0] = best.token;
        seen[best.token] = 1;
    }
}
