// Shared by all kernels: element types, packs of adjacent elements, exact fast division, geometry.
//
// Pattern of every kernel: in each step of a grid-stride loop a thread computes one result, or one
// pack of adjacent results, so any grid size is correct. It gathers its inputs and writes each
// result once; no two threads write the same address. Only kernels that read the user's indices
// also write with atomicMin and atomicMax, whose results do not depend on the order of threads.
//
// An array is (planes, input[0], input[1], input[2], channels). With one or two spatial axes the
// lengths of the other axes are 1, and they come first. If channels come first, they count as
// planes and `channels` is 1. I is the type of all index arithmetic: int, or long long for arrays
// of more elements than MAX_INT32 in launcher.py, which is a little less than 2**31.

#ifdef __CUDACC_RTC__
// float16 and its two hardware conversions. cuda_fp16.h has them too, but CuPy runs on machines
// without CUDA's headers.
struct Half {
    unsigned short bits;
};
__device__ inline float number(Half value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}
__device__ inline Half to_half(float value) {
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
#else
#include <cuda_fp16.h>  // the emulation's header
using Half = __half;
__device__ inline float number(Half value) { return __half2float(value); }
__device__ inline Half to_half(float value) { return __float2half_rn(value); }
#endif

template <typename T> __device__ inline T number(T value) { return value; }

// Type of sums: float for float16, T for the others.
template <typename T> struct Sum { using type = T; };
template <> struct Sum<Half> { using type = float; };

template <typename T> __device__ inline T rounded(typename Sum<T>::type sum) { return sum; }
template <> __device__ inline Half rounded<Half>(float sum) { return to_half(sum); }

// +0.0 (all bits zero).
template <typename T> __device__ inline T zero() { return T{}; }

// N adjacent elements, loaded or stored in one access of at most 16 bytes.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

template <int N, typename T, typename I>
__device__ inline Pack<T, N> load(const T* __restrict__ source, I index) {
    return *reinterpret_cast<const Pack<T, N>*>(source + index);
}

template <int N, typename T, typename I>
__device__ inline void store(T* __restrict__ destination, I index, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(destination + index) = pack;
}

// Division of n by a number that is the same in the whole launch. With int, 0 <= n < 2**31, and a
// multiplication and a shift replace the division (Granlund and Montgomery, "Division by Invariant
// Integers using Multiplication", PLDI 1994); the host computes factor and shift.
template <typename I> struct Divisor;

template <> struct Divisor<int> {
    int value;
    unsigned factor;
    int shift;

    __device__ int quotient(int n) const {
        const unsigned dividend = n;
        const unsigned high = (unsigned)(((unsigned long long)dividend * factor) >> 32);
        return (int)((high + dividend) >> shift);
    }
};

template <> struct Divisor<long long> {
    long long value;

    __device__ long long quotient(long long n) const { return n / value; }
};

// A stack of planes and its windows.
template <typename I> struct Geometry {
    I planes;
    Divisor<I> channels;
    Divisor<I> input[3];
    Divisor<I> output[3];
    Divisor<I> size[3];
    Divisor<I> stride[3];
    Divisor<I> dilation[3];
    I before[3];  // padding before each axis; negative if the first window starts after cell 0
    I extent[3];  // (size - 1) * dilation + 1
    // (extent - 1) / stride: of the windows that may cover a cell, the number before the last one.
    I reach[3];

    __device__ I inputs() const {
        return planes * input[0].value * input[1].value * input[2].value * channels.value;
    }
    __device__ I outputs() const {
        return planes * output[0].value * output[1].value * output[2].value * channels.value;
    }
    // Input position of a window's cell 0; negative in the padding.
    __device__ I start(int axis, I output_position) const {
        return output_position * stride[axis].value - before[axis];
    }
    __device__ bool inside(int axis, I position) const {
        return position >= 0 && position < input[axis].value;
    }
};

// Cells [first, stop) of a window along one axis.
template <typename I> struct Cells {
    I first, stop;
};

// Cells at positions [low, high) of a window whose cell 0 is at position `start`.
template <typename I>
__device__ inline Cells<I> cells_between(
    const Geometry<I>& g, int axis, I start, I low, I high) {
    const Divisor<I>& step = g.dilation[axis];
    const I stop = start < high ? step.quotient(high - 1 - start) + 1 : 0;
    return {
        start < low ? step.quotient(low - start + step.value - 1) : 0,
        stop < g.size[axis].value ? stop : g.size[axis].value};
}

// Cells of the window at an output position that are inside the input.
template <typename I>
__device__ inline Cells<I> cells_inside(const Geometry<I>& g, int axis, I output) {
    return cells_between(g, axis, g.start(axis, output), (I)0, g.input[axis].value);
}

// Coordinates of an element.
template <typename I> struct Place {
    I plane, at[3], channel;
};

template <typename I>
__device__ inline Place<I> place_of(I flat, const Divisor<I> (&shape)[3], const Divisor<I>& channels) {
    Place<I> place;
    I rest = channels.quotient(flat);
    place.channel = flat - rest * channels.value;
#pragma unroll
    for (int axis = 2; axis >= 0; --axis) {
        const I next = shape[axis].quotient(rest);
        place.at[axis] = rest - next * shape[axis].value;
        rest = next;
    }
    place.plane = rest;
    return place;
}

template <typename I>
__device__ inline I flat_of(
    I plane, I a, I b, I c, I channel, const Divisor<I> (&shape)[3], const Divisor<I>& channels) {
    return (((plane * shape[0].value + a) * shape[1].value + b) * shape[2].value + c)
        * channels.value + channel;
}

// Windows first ... last along one axis that may cover an input position; with dilation or gaps
// between windows not all of them do, so `cell_of` decides.
template <typename I> struct Covering {
    I first, last;
};

template <typename I>
__device__ inline Covering<I> covering(const Geometry<I>& g, int axis, I position) {
    const I shifted = position + g.before[axis];
    if (shifted < 0) return {0, -1};
    const I latest = g.stride[axis].quotient(shifted);
    const I last = latest < g.output[axis].value ? latest : g.output[axis].value - 1;
    const I first = latest - g.reach[axis];
    return {first < 0 ? 0 : first, last};
}

// Cell of window `output` at input position `position` along one axis, or -1 if there is none.
template <typename I>
__device__ inline I cell_of(const Geometry<I>& g, int axis, I position, I output) {
    const I distance = position - g.start(axis, output);
    if (distance < 0 || distance >= g.extent[axis]) return -1;
    const I cell = g.dilation[axis].quotient(distance);
    return cell * g.dilation[axis].value == distance ? cell : -1;
}

template <typename I> __device__ inline I first_thread() {
    return (I)blockIdx.x * (I)blockDim.x + (I)threadIdx.x;
}

template <typename I> __device__ inline I all_threads() {
    return (I)gridDim.x * (I)blockDim.x;
}
