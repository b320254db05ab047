// What all kernels share: number formats, vector loads, reductions.
//
// The program is one text for one set of formats (see ../source.rs):
//   T   activations and weights         float or bf16
//   G   gradients of parameters         float or bf16
//   M   moments of the optimiser        float or bf16 (eight bits: adamw8.cu)
// All arithmetic is f32. Nothing here includes a header: the compiler is NVRTC alone, or, for tests, the system's C++
// compiler behind tests/support/emulator/cuda_host.h.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;
typedef unsigned char u8;

#define DEVICE __device__ __forceinline__
// A kernel and the threads of its blocks: the name and the geometry that ../launch knows.
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)

const u32 FULL_WARP = 0xffffffffu;
const float NOTHING = -3.402823466e38f;

// Brain float: the upper half of an f32.
struct bf16 {
    u16 bits;
};

DEVICE float to_float(float value) { return value; }
DEVICE float to_float(bf16 value) { return __uint_as_float((u32)value.bits << 16); }

// To the nearest, ties to even; a NaN stays one.
DEVICE u16 nearest_bf16(float value) {
    u32 bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

DEVICE void store(float& to, float value) { to = value; }
DEVICE void store(bf16& to, float value) { to.bits = nearest_bf16(value); }

// As many values as a 16-byte load brings.
template <class V>
struct Width {
    static const u32 value = 16 / sizeof(V);
};

// `N` neighbouring values, loaded and stored as one.
template <class V, u32 N>
struct __align__(sizeof(V) * N) Pack {
    V values[N];
};

template <u32 N, class V>
DEVICE void load(float (&to)[N], const V* from) {
    Pack<V, N> pack = *(const Pack<V, N>*)from;
#pragma unroll
    for (u32 i = 0; i < N; i++) to[i] = to_float(pack.values[i]);
}

template <u32 N, class V>
DEVICE void store(V* to, const float (&from)[N]) {
    Pack<V, N> pack;
#pragma unroll
    for (u32 i = 0; i < N; i++) store(pack.values[i], from[i]);
    *(Pack<V, N>*)to = pack;
}

DEVICE u32 lane_index() { return threadIdx.x % 32; }
DEVICE u32 warp_index() { return threadIdx.x / 32; }

DEVICE float warp_sum(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    return value;
}

DEVICE float warp_max(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, distance));
    }
    return value;
}

// Sum over the block's threads, in every thread. Blocks are whole warps.
DEVICE float block_sum(float value) {
    __shared__ float parts[32];
    value = warp_sum(value);
    __syncthreads();
    if (lane_index() == 0) parts[warp_index()] = value;
    __syncthreads();
    return warp_sum(lane_index() < blockDim.x / 32 ? parts[lane_index()] : 0.0f);
}

// Largest over the block's threads, in every thread.
DEVICE float block_max(float value) {
    __shared__ float parts[32];
    value = warp_max(value);
    __syncthreads();
    if (lane_index() == 0) parts[warp_index()] = value;
    __syncthreads();
    return warp_max(lane_index() < blockDim.x / 32 ? parts[lane_index()] : NOTHING);
}

// PCG's output hash (Jarzynski & Olano 2020), as in engine/src/backend/mod.rs.
DEVICE u32 pcg(u32 value) {
    u32 state = value * 747796405u + 2891336453u;
    u32 word = ((state >> ((state >> 28) + 4u)) ^ state) * 277803737u;
    return (word >> 22) ^ word;
}
