// A CUDA device on the processor, for tests: what the kernels use of the language, for the system's C++ compiler. Every
// thread of a block is a fibre; barriers and warp operations switch between them. It shows what the kernels compute; it
// says nothing about their speed, nor about a real GPU.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __align__(bytes) alignas(bytes)
// Blocks run one after the other.
#define __shared__ static

struct Dim3 {
    unsigned x, y, z;
};
static Dim3 threadIdx, blockIdx, blockDim, gridDim;

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

[[noreturn]] static void fail(const char* what) {
    fprintf(stderr, "emulation: %s (block %u %u, thread %u %u)\n", what, blockIdx.x, blockIdx.y, threadIdx.x,
            threadIdx.y);
    fflush(stderr);
    _exit(1);
}

// Memory whose end lies before a page that nobody may touch, filled with NaN.
static size_t pages(size_t bytes) {
    size_t page = sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

struct Memory {
    char* base;
    char* begin;
    size_t mapped;
};

static Memory guarded(size_t bytes, size_t alignment) {
    size_t rounded = (bytes + alignment - 1) / alignment * alignment, page = sysconf(_SC_PAGESIZE);
    size_t mapped = pages(rounded) + page;
    char* base = (char*)mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) fail("out of memory");
    mprotect(base + mapped - page, page, PROT_NONE);
    memset(base, 0xff, mapped - page);
    Memory memory = {base, base + mapped - page - rounded, mapped};
    return memory;
}

// Sixteen bytes on the way to shared memory: they arrive when the thread waits for their group, not before.
struct Copy {
    void* to;
    const void* from;
    bool valid;
    int group;
};

const int MOST_THREADS = 1024, STACK = 128 * 1024, MOST_COPIES = 256;

struct Barrier {
    int arrived, members;
    unsigned generation;
};

struct Fibre {
    jmp_buf at;
    // What it waits for, and which opening of it.
    const Barrier* barrier;
    unsigned generation;
    char* stack;
    bool finished;
    Dim3 index;
    Copy copies[MOST_COPIES];
    int copy_count, group;
};

static Fibre* fibres;
static int fibre_count, current;
static jmp_buf scheduler;
static Barrier block_barrier, warp_barriers[MOST_THREADS / 32];
static unsigned long progress;
// What the lanes of a warp show each other, in turn in two places, so that one barrier an exchange is enough.
static unsigned char exchange[2][MOST_THREADS][64];
static int turns[MOST_THREADS];
static char* dynamic_shared;
static void (*body)(void);
static bool backwards;

static void yield() {
    if (!_setjmp(fibres[current].at)) _longjmp(scheduler, 1);
}

static void release(Barrier& barrier) {
    if (barrier.arrived > 0 && barrier.arrived == barrier.members) {
        barrier.arrived = 0;
        barrier.generation++;
        progress++;
    }
}

static void wait(Barrier& barrier) {
    Fibre& fibre = fibres[current];
    fibre.barrier = &barrier;
    fibre.generation = barrier.generation;
    barrier.arrived++;
    release(barrier);
    if (barrier.generation == fibre.generation) yield();
    fibre.barrier = nullptr;
}

static void __syncthreads() { wait(block_barrier); }

static const unsigned char (*share(const void* bytes, size_t count))[64] {
    int turn = turns[current]++ % 2;
    memcpy(exchange[turn][current], bytes, count);
    wait(warp_barriers[current / 32]);
    return &exchange[turn][current / 32 * 32];
}

static float __shfl_xor_sync(unsigned mask, float value, int distance) {
    if (mask != 0xffffffffu) fail("only whole warps are emulated");
    const unsigned char(*lanes)[64] = share(&value, 4);
    float other;
    memcpy(&other, lanes[(current % 32) ^ distance], 4);
    return other;
}

#define DYNAMIC_SHARED(type, name) type* name = (type*)dynamic_shared

// The twins of kernels/ptx.cuh.

static unsigned host_bf16(float value) {
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

static unsigned pack_bf16(float low, float high) { return host_bf16(low) | host_bf16(high) << 16; }

static void copy_async(void* shared, const void* global, bool valid) {
    Fibre& fibre = fibres[current];
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16) fail("an asynchronous copy is not aligned");
    if (fibre.copy_count == MOST_COPIES) fail("too many asynchronous copies");
    Copy copy = {shared, global, valid, fibre.group};
    fibre.copies[fibre.copy_count++] = copy;
}

static void copy_commit() { fibres[current].group++; }

template <int PENDING>
static void copy_wait() {
    Fibre& fibre = fibres[current];
    int left = 0;
    for (int i = 0; i < fibre.copy_count; i++) {
        Copy& copy = fibre.copies[i];
        if (copy.group >= fibre.group - PENDING) {
            fibre.copies[left++] = copy;
        } else if (copy.valid) {
            memcpy(copy.to, copy.from, 16);
        } else {
            memset(copy.to, 0, 16);
        }
    }
    fibre.copy_count = left;
}

static void load_rows(unsigned (&to)[4], const void* row, bool transposed) {
    if ((uintptr_t)row % 16) fail("a row of a matrix is not aligned");
    const unsigned char(*lanes)[64] = share(&row, sizeof row);
    int lane = current % 32;
    for (int matrix = 0; matrix < 4; matrix++) {
        unsigned short values[2];
        for (int i = 0; i < 2; i++) {
            int at_row = transposed ? lane % 4 * 2 + i : lane / 4, at_col = transposed ? lane / 4 : lane % 4 * 2 + i;
            const unsigned short* from;
            memcpy(&from, lanes[matrix * 8 + at_row], sizeof from);
            values[i] = from[at_col];
        }
        to[matrix] = values[0] | (unsigned)values[1] << 16;
    }
}

static void load_matrices(unsigned (&to)[4], const void* row) { load_rows(to, row, false); }
static void load_matrices_transposed(unsigned (&to)[4], const void* row) { load_rows(to, row, true); }

static float half_of(unsigned pair, int which) { return __uint_as_float(which ? pair & 0xffff0000u : pair << 16); }

// Fragments as in the PTX manual, "Matrix Fragments for mma.m16n8k16".
static void multiply_add(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    unsigned mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const unsigned char(*lanes)[64] = share(mine, sizeof mine);
    int lane = current % 32;
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8, col = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) {
            const unsigned* left = (const unsigned*)lanes[row % 8 * 4 + k % 8 / 2];
            const unsigned* right = (const unsigned*)lanes[col * 4 + k % 8 / 2];
            d[i] += half_of(left[row / 8 + k / 8 * 2], k % 2) * half_of(right[4 + k / 8], k % 2);
        }
    }
}

// Runs fibres of one block until all have finished.

// A fibre's life: it waits for its turn, runs the body once, and waits for the next block.
static void live() {
    for (;;) {
        yield();
        body();
        fibres[current].finished = true;
        progress++;
        block_barrier.members--;
        warp_barriers[current / 32].members--;
        release(block_barrier);
        release(warp_barriers[current / 32]);
    }
}

// Makes the fibre wait for its first turn, on a stack of its own.
static void begin(int index) {
    Fibre& fibre = fibres[index];
    fibre.stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fibre.stack == MAP_FAILED) fail("out of memory for stacks");
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fibre.stack;
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, live, 0);
    current = index;
    if (!_setjmp(scheduler)) setcontext(&context);
}

static void resume(Fibre& fibre) {
    if (!_setjmp(scheduler)) _longjmp(fibre.at, 1);
}

static void run_block() {
    fibre_count = blockDim.x * blockDim.y;
    if (!fibres) fibres = (Fibre*)calloc(MOST_THREADS, sizeof(Fibre));
    block_barrier = {0, fibre_count, 0};
    for (int warp = 0; warp * 32 < fibre_count; warp++) warp_barriers[warp] = {0, 32, 0};
    for (int i = 0; i < fibre_count; i++) {
        Fibre& fibre = fibres[i];
        if (!fibre.stack) begin(i);
        fibre.finished = false;
        fibre.barrier = nullptr;
        fibre.copy_count = fibre.group = turns[i] = 0;
        fibre.index = {(unsigned)i % blockDim.x, (unsigned)i / blockDim.x, 0};
    }
    int running = fibre_count;
    while (running > 0) {
        unsigned long before = progress;
        for (int i = 0; i < fibre_count; i++) {
            current = backwards ? fibre_count - 1 - i : i;
            Fibre& fibre = fibres[current];
            if (fibre.finished || (fibre.barrier && fibre.barrier->generation == fibre.generation)) continue;
            threadIdx = fibre.index;
            resume(fibre);
            if (fibre.finished) running--;
        }
        if (progress == before) fail("threads wait for each other at different barriers");
    }
}
