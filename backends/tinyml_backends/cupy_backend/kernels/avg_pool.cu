// Average pooling and its gradient. Terms are added in row-major order.
#include "common.cuh"

// The divisor of a mean: `divisor` if it is not 0, else the number of window cells at positions
// [low, high) along each axis.
template <typename I> struct Counted {
    I low[3], high[3];
    long long divisor;
};

template <typename I>
__device__ inline long long divisor_of(
    const Counted<I>& counted, const Geometry<I>& g, const I (&output)[3]) {
    if (counted.divisor != 0) return counted.divisor;
    long long cells = 1;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
        const Cells<I> along = cells_between(
            g, axis, g.start(axis, output[axis]), counted.low[axis], counted.high[axis]);
        cells *= along.stop - along.first;
    }
    return cells;
}

// Each thread handles N adjacent channels; N is 1 if channels come first.
template <typename T, typename I, int N>
__global__ void avg_pool(
    const T* __restrict__ x, T* __restrict__ out, Geometry<I> g, Counted<I> counted) {
    using S = typename Sum<T>::type;
    const I count = g.outputs() / N;
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const Place<I> p = place_of(i * N, g.output, g.channels);
        const Cells<I> along_a = cells_inside(g, 0, p.at[0]);
        const Cells<I> along_b = cells_inside(g, 1, p.at[1]);
        const Cells<I> along_c = cells_inside(g, 2, p.at[2]);
        S total[N] = {};
        for (I a = along_a.first; a < along_a.stop; ++a) {
            const I at_a = g.start(0, p.at[0]) + a * g.dilation[0].value;
            for (I b = along_b.first; b < along_b.stop; ++b) {
                const I at_b = g.start(1, p.at[1]) + b * g.dilation[1].value;
                for (I c = along_c.first; c < along_c.stop; ++c) {
                    const I at_c = g.start(2, p.at[2]) + c * g.dilation[2].value;
                    const Pack<T, N> cell = load<N>(
                        x, flat_of(p.plane, at_a, at_b, at_c, p.channel, g.input, g.channels));
#pragma unroll
                    for (int n = 0; n < N; ++n) total[n] += number(cell.at[n]);
                }
            }
        }
        const S divisor = (S)divisor_of(counted, g, p.at);
        Pack<T, N> mean;
#pragma unroll
        for (int n = 0; n < N; ++n) mean.at[n] = rounded<T>(total[n] / divisor);
        store(out, i * N, mean);
    }
}

// Each thread handles one input cell of N adjacent channels: the sum of the gradients, each divided,
// of the windows that cover it.
template <typename T, typename I, int N>
__global__ void avg_pool_gradient(
    const T* __restrict__ gradient, T* __restrict__ out, Geometry<I> g, Counted<I> counted) {
    using S = typename Sum<T>::type;
    const I count = g.inputs() / N;
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const Place<I> p = place_of(i * N, g.input, g.channels);
        S total[N] = {};
        const Covering<I> along_a = covering(g, 0, p.at[0]);
        const Covering<I> along_b = covering(g, 1, p.at[1]);
        const Covering<I> along_c = covering(g, 2, p.at[2]);
        for (I a = along_a.first; a <= along_a.last; ++a) {
            if (cell_of(g, 0, p.at[0], a) < 0) continue;
            for (I b = along_b.first; b <= along_b.last; ++b) {
                if (cell_of(g, 1, p.at[1], b) < 0) continue;
                for (I c = along_c.first; c <= along_c.last; ++c) {
                    if (cell_of(g, 2, p.at[2], c) < 0) continue;
                    const I window[3] = {a, b, c};
                    const S divisor = (S)divisor_of(counted, g, window);
                    const Pack<T, N> terms = load<N>(
                        gradient, flat_of(p.plane, a, b, c, p.channel, g.output, g.channels));
#pragma unroll
                    for (int n = 0; n < N; ++n) total[n] += number(terms.at[n]) / divisor;
                }
            }
        }
        Pack<T, N> result;
#pragma unroll
        for (int n = 0; n < N; ++n) result.at[n] = rounded<T>(total[n]);
        store(out, i * N, result);
    }
}
