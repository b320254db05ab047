// The device's side of the conversation with tests/support/emulator.rs: requests on stdin, answers on stdout, all
// numbers in this machine's own order.
#include <tuple>
#include <utility>

struct Word {
    uint64_t kind, bits;
};

// Kinds as emulator.rs numbers them: a call whose arguments are in another order does not pass.
template <class A>
struct Kind;
template <class V>
struct Kind<V*> {
    static const uint64_t value = 0;
};
template <>
struct Kind<u32> {
    static const uint64_t value = 1;
};
template <>
struct Kind<u64> {
    static const uint64_t value = 2;
};
template <>
struct Kind<float> {
    static const uint64_t value = 3;
};

static const Word* words;
static size_t word_count;

template <class A>
static A take(size_t index) {
    if (words[index].kind != Kind<A>::value) {
        fprintf(stderr, "emulation: argument %zu is of another kind\n", index);
        _exit(1);
    }
    A value;
    memcpy(&value, &words[index].bits, sizeof value);
    return value;
}

// Reads the arguments once; every fibre calls with them.
template <auto FUNCTION, class... A, size_t... I>
static void invoke(void (*)(A...), std::index_sequence<I...>) {
    if (sizeof...(A) != word_count) {
        fprintf(stderr, "emulation: %zu arguments, expected %zu\n", word_count, sizeof...(A));
        _exit(1);
    }
    static std::tuple<A...> arguments;
    arguments = std::tuple<A...>(take<A>(I)...);
    body = [] { FUNCTION(std::get<I>(arguments)...); };
}

template <class... A>
static std::index_sequence_for<A...> indices(void (*)(A...)) {
    return {};
}

struct Kernel {
    const char* name;
    void (*bind)();
};

#define ENTRY(name)                                                    \
    {                                                                  \
        #name, [] { invoke<name>(name, decltype(indices(name)){}); } \
    }

static void get(void* to, size_t bytes) {
    if (fread(to, 1, bytes, stdin) != bytes) _exit(0);
}

static uint64_t number() {
    uint64_t value;
    get(&value, 8);
    return value;
}

static void put(const void* from, size_t bytes) { fwrite(from, 1, bytes, stdout); }

static void launch(const Kernel* kernels, size_t count) {
    char name[64] = {};
    uint64_t length = number();
    if (length >= sizeof name) fail("a long name");
    get(name, length);
    gridDim = {(unsigned)number(), (unsigned)number(), 1};
    blockDim = {(unsigned)number(), (unsigned)number(), 1};
    uint64_t shared = number();
    static Word list[64];
    word_count = number();
    if (word_count > 64) fail("many arguments");
    get(list, word_count * sizeof(Word));
    words = list;
    const Kernel* kernel = nullptr;
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(kernels[i].name, name)) kernel = &kernels[i];
    }
    if (!kernel) {
        fprintf(stderr, "emulation: no kernel %s\n", name);
        _exit(1);
    }
    kernel->bind();
    Memory memory = guarded(shared, 16);
    dynamic_shared = memory.begin;
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++) {
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
            memset(dynamic_shared, 0xff, shared);
            run_block();
        }
    }
    munmap(memory.base, memory.mapped);
}

template <class V>
static float at(const char* matrix, bool transposed, size_t stride, size_t row, size_t col) {
    return to_float(((const V*)matrix)[transposed ? col * stride + row : row * stride + col]);
}

template <class I, class O>
static void multiply(const uint64_t* p, const char* a, const char* b, const char* add, char* out) {
    size_t m = p[0], n = p[1], k = p[2];
    float* sums = (float*)malloc(n * sizeof(float));
    float* rows = (float*)malloc(k * n * sizeof(float));
    for (size_t i = 0; i < k; i++) {
        for (size_t col = 0; col < n; col++) rows[i * n + col] = at<I>(b, p[5], p[6], i, col);
    }
    for (size_t row = 0; row < m; row++) {
        for (size_t col = 0; col < n; col++) sums[col] = 0.0f;
        for (size_t i = 0; i < k; i++) {
            float left = at<I>(a, p[3], p[4], row, i);
            for (size_t col = 0; col < n; col++) sums[col] += left * rows[i * n + col];
        }
        for (size_t col = 0; col < n; col++) {
            float sum = sums[col] + (add ? to_float(((const O*)add)[row * p[7] + col]) : 0.0f);
            store(((O*)out)[row * p[7] + col], sum);
        }
    }
    free(sums);
    free(rows);
}

static void product() {
    uint64_t p[14];
    get(p, sizeof p);
    const char *a = (char*)p[10], *b = (char*)p[11], *add = (char*)p[12];
    char* out = (char*)p[13];
    if (p[8] == 4 && p[9] == 4) {
        multiply<float, float>(p, a, b, add, out);
    } else if (p[8] == 2 && p[9] == 4) {
        multiply<bf16, float>(p, a, b, add, out);
    } else {
        multiply<bf16, bf16>(p, a, b, add, out);
    }
}

static int serve(const Kernel* kernels, size_t count) {
    static Memory buffers[65536];
    size_t used = 0;
    for (;;) {
        switch (number()) {
            case 0: {
                Memory memory = guarded(number(), 256);
                size_t index = 0;
                while (index < used && buffers[index].base) index++;
                if (index == 65536) fail("too many buffers");
                if (index == used) used++;
                buffers[index] = memory;
                put(&memory.begin, 8);
                fflush(stdout);
                break;
            }
            case 1: {
                char* begin = (char*)number();
                for (size_t index = 0; index < used; index++) {
                    if (buffers[index].base && buffers[index].begin == begin) {
                        munmap(buffers[index].base, buffers[index].mapped);
                        buffers[index].base = nullptr;
                    }
                }
                break;
            }
            case 2: {
                char* to = (char*)number();
                get(to, number());
                break;
            }
            case 3: {
                char* from = (char*)number();
                put(from, number());
                fflush(stdout);
                break;
            }
            case 4: {
                char* to = (char*)number();
                memset(to, 0, number());
                break;
            }
            case 5: {
                char *from = (char*)number(), *to = (char*)number();
                memmove(to, from, number());
                break;
            }
            case 6: launch(kernels, count); break;
            case 7: product(); break;
            case 8: backwards = number(); break;
            default: fail("an unknown request");
        }
    }
}
