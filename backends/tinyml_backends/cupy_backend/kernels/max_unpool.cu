// Max-unpooling by winners, and the gradient of max-pooling, which is the same with sums.
//
// Each thread visits the windows that cover its input cell, in row-major order, and takes the
// values of those whose winner it is. So each cell is written once, without atomics, and an invalid
// winner matches no cell.
#include "common.cuh"

// Result of an input cell: the last value taken, or with SUM the sum of the values from +0.0.
template <typename T, bool SUM> struct Cell;

template <typename T> struct Cell<T, false> {
    T value = zero<T>();
    __device__ void take(T next) { value = next; }
    __device__ T result() const { return value; }
};

template <typename T> struct Cell<T, true> {
    typename Sum<T>::type value = 0;
    __device__ void take(T next) { value += number(next); }
    __device__ T result() const { return rounded<T>(value); }
};

// Any window. Each thread handles N adjacent channels; N is 1 if channels come first.
template <typename T, typename W, typename I, int N, bool SUM>
__global__ void max_unpool(
    const T* __restrict__ y, const W* __restrict__ winners, T* __restrict__ out, Geometry<I> g) {
    const I count = g.inputs() / N;
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const Place<I> p = place_of(i * N, g.input, g.channels);
        Cell<T, SUM> cells[N];
        const Covering<I> along_a = covering(g, 0, p.at[0]);
        const Covering<I> along_b = covering(g, 1, p.at[1]);
        const Covering<I> along_c = covering(g, 2, p.at[2]);
        for (I a = along_a.first; a <= along_a.last; ++a) {
            const I cell_a = cell_of(g, 0, p.at[0], a);
            if (cell_a < 0) continue;
            for (I b = along_b.first; b <= along_b.last; ++b) {
                const I cell_b = cell_of(g, 1, p.at[1], b);
                if (cell_b < 0) continue;
                for (I c = along_c.first; c <= along_c.last; ++c) {
                    const I cell_c = cell_of(g, 2, p.at[2], c);
                    if (cell_c < 0) continue;
                    const W cell = (W)((cell_a * g.size[1].value + cell_b) * g.size[2].value + cell_c);
                    const I window = flat_of(p.plane, a, b, c, p.channel, g.output, g.channels);
                    const Pack<W, N> winner = load<N>(winners, window);
                    const Pack<T, N> value = load<N>(y, window);
#pragma unroll
                    for (int n = 0; n < N; ++n) {
                        if (winner.at[n] == cell) cells[n].take(value.at[n]);
                    }
                }
            }
        }
        Pack<T, N> result;
#pragma unroll
        for (int n = 0; n < N; ++n) result.at[n] = cells[n].result();
        store(out, i * N, result);
    }
}

// Channels first, windows two cells wide that tile each row and do not overlap along any axis: each
// thread writes N adjacent cells (16 bytes) of a row from N / 2 windows.
template <typename T, typename W, typename I, int N, bool SUM>
__global__ void max_unpool_width2(
    const T* __restrict__ y, const W* __restrict__ winners, T* __restrict__ out, Geometry<I> g) {
    const I count = g.inputs() / N;
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const Place<I> p = place_of(i * N, g.input, g.channels);
        Cell<T, SUM> cells[N];
        const I a = covering(g, 0, p.at[0]).last;
        const I b = covering(g, 1, p.at[1]).last;
        const I cell_a = a < 0 ? -1 : cell_of(g, 0, p.at[0], a);
        const I cell_b = b < 0 ? -1 : cell_of(g, 1, p.at[1], b);
        if (cell_a >= 0 && cell_b >= 0) {
            const W cell = (W)((cell_a * g.size[1].value + cell_b) * 2);
            const I window = flat_of(p.plane, a, b, p.at[2] / 2, (I)0, g.output, g.channels);
            const Pack<W, N / 2> winner = load<N / 2>(winners, window);
            const Pack<T, N / 2> value = load<N / 2>(y, window);
#pragma unroll
            for (int n = 0; n < N; ++n) {
                if (winner.at[n / 2] == cell + n % 2) cells[n].take(value.at[n / 2]);
            }
        }
        Pack<T, N> result;
#pragma unroll
        for (int n = 0; n < N; ++n) result.at[n] = cells[n].result();
        store(out, i * N, result);
    }
}
