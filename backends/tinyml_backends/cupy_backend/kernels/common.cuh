// What all kernels share: element types, packs of neighbours, exact fast division, the geometry.
//
// Pattern of every kernel: one thread makes one result (or one pack of neighbouring results) at a
// time and strides over the grid, so that any grid is right. It gathers what it needs and writes
// each of its results once; no two threads write the same place.
//
// An array is (planes, input[0], input[1], input[2], channels); one or two spatial axes are three
// whose first lengths are 1, and where channels come first they count as planes and `channels` is 1.
// I is the type of all index arithmetic: int, or long long for arrays of 2**31 elements or more.

#ifdef __CUDACC_RTC__
// float16 and the two conversions that the hardware has. CUDA's own header would bring them too, but
// need not be there where CuPy runs.
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
#include <cuda_fp16.h>  // of the emulation
using Half = __half;
__device__ inline float number(Half value) { return __half2float(value); }
__device__ inline Half to_half(float value) { return __float2half_rn(value); }
#endif

template <typename T> __device__ inline T number(T value) { return value; }

// Sums are kept in Sum<T>::type: float16 in float32, the others in themselves.
template <typename T> struct Sum { using type = T; };
template <> struct Sum<Half> { using type = float; };

template <typename T> __device__ inline T rounded(typename Sum<T>::type sum) { return sum; }
template <> __device__ inline Half rounded<Half>(float sum) { return to_half(sum); }

// All bits zero: +0.0.
template <typename T> __device__ inline T zero() { return T{}; }

// N neighbours that are loaded and stored at once: 16 bytes of T, or fewer of the winners' type.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

template <int N, typename T, typename I>
__device__ inline Pack<T, N> load(const T* __restrict__ from, I index) {
    return *reinterpret_cast<const Pack<T, N>*>(from + index);
}

template <int N, typename T, typename I>
__device__ inline void store(T* __restrict__ to, I index, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(to + index) = pack;
}

// Division of 0 <= n < 2**31 by a number known before the launch, as a multiplication: Granlund and
// Montgomery, "Division by Invariant Integers using Multiplication", PLDI 1994. The host computes
// factor and shift.
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

// A stack of planes and the windows on it.
template <typename I> struct Geometry {
    I planes;
    Divisor<I> channels;
    Divisor<I> input[3];
    Divisor<I> output[3];
    Divisor<I> size[3];
    Divisor<I> stride[3];
    Divisor<I> dilation[3];
    I before[3];  // padding in front of each axis; negative where the windows leave cells over
    I extent[3];  // input cells from a window's first to its last, both included
    I reach[3];   // how many windows in front of the last one may cover the same cell

    __device__ I inputs() const {
        return planes * input[0].value * input[1].value * input[2].value * channels.value;
    }
    __device__ I outputs() const {
        return planes * output[0].value * output[1].value * output[2].value * channels.value;
    }
    // Input position of a window's cell 0; negative inside the padding.
    __device__ I start(int axis, I output_position) const {
        return output_position * stride[axis].value - before[axis];
    }
    __device__ bool inside(int axis, I position) const {
        return position >= 0 && position < input[axis].value;
    }
};

// Cells of a window along one axis: first ... stop - 1.
template <typename I> struct Cells {
    I first, stop;
};

// Cells that stand in [low, high) where the window's cell 0 stands at `start`.
template <typename I>
__device__ inline Cells<I> cells_between(
    const Geometry<I>& g, int axis, I start, I low, I high) {
    const Divisor<I>& step = g.dilation[axis];
    const I behind = start < high ? step.quotient(high - 1 - start) + 1 : 0;
    return {
        start < low ? step.quotient(low - start + step.value - 1) : 0,
        behind < g.size[axis].value ? behind : g.size[axis].value};
}

// Cells inside the input of a window at an output position.
template <typename I>
__device__ inline Cells<I> cells_inside(const Geometry<I>& g, int axis, I output) {
    return cells_between(g, axis, g.start(axis, output), (I)0, g.input[axis].value);
}

// Where an element of an array stands.
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

// The windows that cover an input position along one axis: candidates first ... last, ascending,
// of which each must still be asked `cell_of`.
template <typename I> struct Covering {
    I first, last;
};

template <typename I>
__device__ inline Covering<I> covering(const Geometry<I>& g, int axis, I position) {
    const I shifted = position + g.before[axis];
    if (shifted < 0) return {0, -1};
    const I newest = g.stride[axis].quotient(shifted);
    const I last = newest < g.output[axis].value ? newest : g.output[axis].value - 1;
    const I first = newest - g.reach[axis];
    return {first < 0 ? 0 : first, last};
}

// Number along one axis of the cell with which window `output` covers `position`, or -1.
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
