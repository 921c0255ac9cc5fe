// Max-pooling: values and winners in one pass.
#include "common.cuh"

// A cell replaces the best one so far if it is greater or NaN: the first maximum or last NaN wins.
template <typename T> __device__ inline bool replaces(T candidate, T best) {
    return number(candidate) > number(best) || number(candidate) != number(candidate);
}

// Any window. Each thread handles N adjacent channels; N is 1 if channels come first.
template <typename T, typename W, typename I, int N>
__global__ void max_pool(
    const T* __restrict__ x, T* __restrict__ values, W* __restrict__ winners, Geometry<I> g) {
    const I count = g.outputs() / N;
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const Place<I> p = place_of(i * N, g.output, g.channels);
        const Cells<I> along_a = cells_inside(g, 0, p.at[0]);
        const Cells<I> along_b = cells_inside(g, 1, p.at[1]);
        const Cells<I> along_c = cells_inside(g, 2, p.at[2]);
        Pack<T, N> best;
        Pack<W, N> winner;
        bool first = true;
        for (I a = along_a.first; a < along_a.stop; ++a) {
            const I at_a = g.start(0, p.at[0]) + a * g.dilation[0].value;
            for (I b = along_b.first; b < along_b.stop; ++b) {
                const I at_b = g.start(1, p.at[1]) + b * g.dilation[1].value;
                const I row = (a * g.size[1].value + b) * g.size[2].value;
                for (I c = along_c.first; c < along_c.stop; ++c) {
                    const I at_c = g.start(2, p.at[2]) + c * g.dilation[2].value;
                    const Pack<T, N> cell = load<N>(
                        x, flat_of(p.plane, at_a, at_b, at_c, p.channel, g.input, g.channels));
#pragma unroll
                    for (int n = 0; n < N; ++n) {
                        if (first || replaces(cell.at[n], best.at[n])) {
                            best.at[n] = cell.at[n];
                            winner.at[n] = (W)(row + c);
                        }
                    }
                    first = false;
                }
            }
        }
        store(values, i * N, best);
        store(winners, i * N, winner);
    }
}

// Channels first, windows two cells wide that tile each row: each thread loads N adjacent cells
// (16 bytes) of a row, which belong to N / 2 windows. N divides the length of a row.
template <typename T, typename W, typename I, int N>
__global__ void max_pool_width2(
    const T* __restrict__ x, T* __restrict__ values, W* __restrict__ winners, Geometry<I> g) {
    const I count = g.outputs() / (N / 2);
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const Place<I> p = place_of(i * (N / 2), g.output, g.channels);
        const Cells<I> along_a = cells_inside(g, 0, p.at[0]);
        const Cells<I> along_b = cells_inside(g, 1, p.at[1]);
        Pack<T, N / 2> best;
        Pack<W, N / 2> winner;
        bool first = true;
        for (I a = along_a.first; a < along_a.stop; ++a) {
            const I at_a = g.start(0, p.at[0]) + a * g.dilation[0].value;
            for (I b = along_b.first; b < along_b.stop; ++b) {
                const I at_b = g.start(1, p.at[1]) + b * g.dilation[1].value;
                const I row = (a * g.size[1].value + b) * 2;
                const Pack<T, N> cells = load<N>(
                    x, flat_of(p.plane, at_a, at_b, 2 * p.at[2], (I)0, g.input, g.channels));
#pragma unroll
                for (int n = 0; n < N; ++n) {
                    if ((first && n % 2 == 0) || replaces(cells.at[n], best.at[n / 2])) {
                        best.at[n / 2] = cells.at[n];
                        winner.at[n / 2] = (W)(row + n % 2);
                    }
                }
                first = false;
            }
        }
        store(values, i * (N / 2), best);
        store(winners, i * (N / 2), winner);
    }
}
