// CUDA's built-in variables and functions for g++, on one host thread. The harness sets threadIdx and
// blockIdx before each call, so a kernel runs one thread after the other. Kernels with barriers,
// shared memory or warp intrinsics do not compile here. Atomics are plain code.
//
// Add further functions of CUDA when a kernel needs them.
#pragma once

#include <cmath>
#include <math.h>  // the overloads for float in the global namespace, as in CUDA
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
};
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;

template <typename T> inline T __ldg(const T* address) { return *address; }

// Reinterprets the bits of one type as another.
template <typename To, typename From> inline To emulated_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float x) { return emulated_bits<unsigned>(x); }
inline int __float_as_int(float x) { return emulated_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return emulated_bits<float>(x); }
inline float __int_as_float(int x) { return emulated_bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulated_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulated_bits<double>(x); }

// With -ffp-contract=off and rounding to nearest even, the plain operators are equivalent.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)(((unsigned long long)a * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline unsigned long long min(unsigned long long a, unsigned long long b) { return b < a ? b : a; }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return a < b ? b : a; }

// Each returns the old value. Overloads instead of templates, so that only CUDA's types are accepted.
// Integer sums wrap, as on the hardware.
#define EMULATED_ATOMIC(type, name, next)               \
    inline type name(type* address, type value) {       \
        const type old = *address;                      \
        *address = (type)(next);                        \
        return old;                                     \
    }
#define EMULATED_ATOMICS(type)                                        \
    EMULATED_ATOMIC(type, atomicMin, value < old ? value : old)       \
    EMULATED_ATOMIC(type, atomicMax, old < value ? value : old)       \
    EMULATED_ATOMIC(type, atomicExch, value)                          \
    inline type atomicCAS(type* address, type compare, type value) {  \
        const type old = *address;                                    \
        if (old == compare) *address = value;                         \
        return old;                                                   \
    }
EMULATED_ATOMICS(int)
EMULATED_ATOMICS(unsigned)
EMULATED_ATOMICS(unsigned long long)
EMULATED_ATOMIC(long long, atomicMin, value < old ? value : old)
EMULATED_ATOMIC(long long, atomicMax, old < value ? value : old)
EMULATED_ATOMIC(int, atomicAdd, (unsigned)old + (unsigned)value)
EMULATED_ATOMIC(unsigned, atomicAdd, old + value)
EMULATED_ATOMIC(unsigned long long, atomicAdd, old + value)
EMULATED_ATOMIC(float, atomicAdd, old + value)
EMULATED_ATOMIC(double, atomicAdd, old + value)
EMULATED_ATOMIC(int, atomicOr, old | value)
EMULATED_ATOMIC(unsigned, atomicOr, old | value)
EMULATED_ATOMIC(unsigned long long, atomicOr, old | value)
