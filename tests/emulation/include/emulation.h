// What a CUDA kernel needs of the device, for g++ on one host thread. The runner sets threadIdx and
// blockIdx before each call, so a kernel runs one thread after the other: no barriers, no shared
// memory, no warps; a kernel that uses them does not compile here. Atomics are plain code.
//
// nvrtc supplies more than this; the rest is added when a kernel needs it.
#pragma once

#include <cmath>
#include <math.h>  // brings the overloads for float into the global namespace, as CUDA has them
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

// A cast of one type's bits to the other.
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

// g++ runs with -ffp-contract=off and rounds to nearest even, so the plain operators are these.
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

// Each returns the old value. Overloads, not templates: only what CUDA has, as CUDA has it. The sum
// wraps, as the hardware's does.
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
