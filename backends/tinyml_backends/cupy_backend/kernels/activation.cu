// Elementwise activations and their gradients. F is a struct of formulas.cuh, which formulas.py
// generates from the formulas of generic/activation.py; `option` is the formula's number, if it has
// one. A thread computes N adjacent elements at once.
#include "common.cuh"

// Of both, NaN if one is NaN; the result has the bits of an argument.
template <typename T> __device__ inline T larger(T a, T b) {
    return number(a) > number(b) || number(a) != number(a) ? a : b;
}
template <typename T> __device__ inline T smaller(T a, T b) {
    return number(a) < number(b) || number(a) != number(a) ? a : b;
}

__device__ inline float absolute(float x) { return fabsf(x); }
__device__ inline double absolute(double x) { return fabs(x); }
__device__ inline float rounded_down(float x) { return floorf(x); }
__device__ inline double rounded_down(double x) { return floor(x); }

// Two to the power of a whole number, which has the exponent of a normal number.
__device__ inline float power_of_two(float exponent) {
    return __int_as_float(((int)exponent + 127) << 23);
}
__device__ inline double power_of_two(double exponent) {
    return __longlong_as_double((long long)((int)exponent + 1023) << 52);
}

#include "formulas.cuh"

template <typename F, typename T, typename S, typename I, int N>
__global__ void activate(const T* __restrict__ x, T* __restrict__ y, S option, I count) {
    const I packs = count / N;
    for (I i = first_thread<I>(); i < packs; i += all_threads<I>()) {
        Pack<T, N> values = load<N>(x, i * N);
#pragma unroll
        for (int n = 0; n < N; ++n) values.at[n] = F::value(values.at[n], option);
        store(y, i * N, values);
    }
}

// Also writes x > 0, as 0 or 1.
template <typename F, typename T, typename S, typename I, int N>
__global__ void activate_signed(
    const T* __restrict__ x, T* __restrict__ y, unsigned char* __restrict__ positive, S option,
    I count) {
    const I packs = count / N;
    for (I i = first_thread<I>(); i < packs; i += all_threads<I>()) {
        Pack<T, N> values = load<N>(x, i * N);
        Pack<unsigned char, N> signs;
#pragma unroll
        for (int n = 0; n < N; ++n) {
            signs.at[n] = number(values.at[n]) > 0;
            values.at[n] = F::value(values.at[n], option);
        }
        store(y, i * N, values);
        store(positive, i * N, signs);
    }
}

// K is the type of what the forward pass kept.
template <typename F, typename T, typename K, typename S, typename I, int N>
__global__ void activate_gradient(
    const T* __restrict__ gradient, const K* __restrict__ saved, T* __restrict__ out, S option,
    I count) {
    const I packs = count / N;
    for (I i = first_thread<I>(); i < packs; i += all_threads<I>()) {
        Pack<T, N> slopes = load<N>(gradient, i * N);
        const Pack<K, N> kept = load<N>(saved, i * N);
#pragma unroll
        for (int n = 0; n < N; ++n) slopes.at[n] = F::gradient(slopes.at[n], kept.at[n], option);
        store(out, i * N, slopes);
    }
}
