// Log-probabilities of given tokens from logits in f32, whose rows are `stride` apart. One block a row.

// Largest value and sum of exp(value - largest), of a thread's columns or of all.
struct Softmax {
    float largest;
    float sum;
};

DEVICE Softmax softmax_of(const float* logits, u32 vocab) {
    float largest = NOTHING, sum = 0.0f;
    for (u32 col = threadIdx.x; col < vocab; col += blockDim.x) {
        float logit = logits[col];
        if (logit > largest) {
            sum *= expf(largest - logit);
            largest = logit;
        }
        sum += expf(logit - largest);
    }
    float overall = block_max(largest);
    Softmax found = {overall, block_sum(sum * expf(largest - overall))};
    return found;
}

KERNEL(256) token_logprobs(float* out, const float* logits, const u32* targets, u32 vocab, u32 stride) {
    const float* row = logits + (size_t)blockIdx.x * stride;
    Softmax s = softmax_of(row, vocab);
    if (threadIdx.x == 0) out[blockIdx.x] = row[targets[blockIdx.x]] - s.largest - logf(s.sum);
}

// out = grad · (one-hot(target) - softmax), and 0 in the columns from `vocab` to `stride`.
KERNEL(256)
token_logprobs_adjoint(
    T* out, const float* logits, const u32* targets, const float* grad, u32 vocab, u32 stride
) {
    size_t at = (size_t)blockIdx.x * stride;
    Softmax s = softmax_of(logits + at, vocab);
    float slope = grad[blockIdx.x];
    u32 target = targets[blockIdx.x];
    for (u32 col = threadIdx.x; col < stride; col += blockDim.x) {
        float p = col < vocab ? expf(logits[at + col] - s.largest) / s.sum : 0.0f;
        store(out[at + col], slope * ((col == target ? 1.0f : 0.0f) - p));
    }
}
