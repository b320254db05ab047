// SwiGLU (arXiv 2002.05202) of fused rows [gate | up]. One block for 256 packs of a row.

template <u32 N>
DEVICE void silu_mul_at(T* out, const T* gate_up, u32 cols, u32 col) {
    if (col >= cols) return;
    const T* row = gate_up + (size_t)blockIdx.x * 2 * cols;
    float gate[N], up[N];
    load<N>(gate, row + col);
    load<N>(up, row + cols + col);
    for (u32 i = 0; i < N; i++) gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
    store<N>(out + (size_t)blockIdx.x * cols + col, gate);
}

// `cols` is the width of gate, and of up.
KERNEL(256) silu_mul(T* out, const T* gate_up, u32 cols) {
    u32 index = blockIdx.y * blockDim.x + threadIdx.x;
    if (cols % Width<T>::value == 0) {
        silu_mul_at<Width<T>::value>(out, gate_up, cols, index * Width<T>::value);
    } else {
        silu_mul_at<1>(out, gate_up, cols, index);
    }
}

// With s the logistic function: dup = grad · gate · s, dgate = grad · up · s · (1 + gate · (1 - s)).
template <u32 N>
DEVICE void silu_mul_adjoint_at(T* out, const T* gate_up, const T* grad, u32 cols, u32 col) {
    if (col >= cols) return;
    size_t at = (size_t)blockIdx.x * 2 * cols + col;
    float gate[N], up[N], slope[N];
    load<N>(gate, gate_up + at);
    load<N>(up, gate_up + at + cols);
    load<N>(slope, grad + (size_t)blockIdx.x * cols + col);
    for (u32 i = 0; i < N; i++) {
        float s = 1.0f / (1.0f + expf(-gate[i]));
        float up_slope = slope[i] * gate[i] * s;
        gate[i] = slope[i] * up[i] * s * (1.0f + gate[i] * (1.0f - s));
        up[i] = up_slope;
    }
    store<N>(out + at, gate);
    store<N>(out + at + cols, up);
}

KERNEL(256) silu_mul_adjoint(T* out, const T* gate_up, const T* grad, u32 cols) {
    u32 index = blockIdx.y * blockDim.x + threadIdx.x;
    if (cols % Width<T>::value == 0) {
        silu_mul_adjoint_at<Width<T>::value>(out, gate_up, grad, cols, index * Width<T>::value);
    } else {
        silu_mul_adjoint_at<1>(out, gate_up, grad, cols, index);
    }
}
