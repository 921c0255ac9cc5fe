// The conversions of CUDA's header of the same name. There is no arithmetic: the kernels compute in
// float. Copying a __half keeps its bits.
#pragma once

struct alignas(2) __half {
    unsigned short emulated_bits_;
};
typedef __half half;
#define EMULATED_HALF 1

inline __half __ushort_as_half(unsigned short bits) { return __half{bits}; }
inline unsigned short __half_as_ushort(__half h) { return h.emulated_bits_; }

inline float __half2float(__half h) {
    _Float16 value;
    __builtin_memcpy(&value, &h, sizeof value);
    return (float)value;
}

// Rounds to nearest even.
inline __half __float2half_rn(float x) {
    const _Float16 value = (_Float16)x;
    __half h;
    __builtin_memcpy(&h, &value, sizeof h);
    return h;
}
inline __half __float2half(float x) { return __float2half_rn(x); }
