// Max-unpooling by indices of any cell of the plane. Of several values for one cell the last one is
// stored: the first kernel finds each cell's owner, the position of its last value; the second one
// copies that value.
#include "common.cuh"

// The host fills `owner` with -1. Bad indices are skipped; `first_bad` receives the position of the
// first one.
template <typename I>
__global__ void claim_cells(
    const long long* __restrict__ indices, I* __restrict__ owner,
    unsigned long long* __restrict__ first_bad, I count, Divisor<I> pooled, I plane) {
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const long long index = indices[i];
        if (index < 0 || index >= plane) {
            atomicMin(first_bad, (unsigned long long)i);
        } else {
            atomicMax(owner + pooled.quotient(i) * plane + (I)index, i);
        }
    }
}

template <typename T, typename I>
__global__ void write_owned(
    const T* __restrict__ y, const I* __restrict__ owner, T* __restrict__ out, I cells) {
    for (I i = first_thread<I>(); i < cells; i += all_threads<I>()) {
        out[i] = owner[i] < 0 ? zero<T>() : y[owner[i]];
    }
}
