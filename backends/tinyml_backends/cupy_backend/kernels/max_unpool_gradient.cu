// Gradient of max-unpooling: for each window, the gradient at its winner's cell.
#include "common.cuh"

template <typename I> __device__ inline I clamped(I position, I length) {
    return position < 0 ? 0 : position < length ? position : length - 1;
}

// Whether a window after `p`, in row-major order, has the input cell `at` as its winner too.
template <typename W, typename I>
__device__ bool overwritten(
    const W* __restrict__ winners, const Geometry<I>& g, const Place<I>& p, const I (&at)[3]) {
    const Covering<I> along_a = covering(g, 0, at[0]);
    const Covering<I> along_b = covering(g, 1, at[1]);
    const Covering<I> along_c = covering(g, 2, at[2]);
    for (I a = p.at[0]; a <= along_a.last; ++a) {
        const bool same_a = a == p.at[0];
        const I cell_a = cell_of(g, 0, at[0], a);
        if (cell_a < 0) continue;
        for (I b = same_a ? p.at[1] : along_b.first; b <= along_b.last; ++b) {
            const bool same_b = same_a && b == p.at[1];
            const I cell_b = cell_of(g, 1, at[1], b);
            if (cell_b < 0) continue;
            for (I c = same_b ? p.at[2] + 1 : along_c.first; c <= along_c.last; ++c) {
                const I cell_c = cell_of(g, 2, at[2], c);
                if (cell_c < 0) continue;
                const I window = flat_of(p.plane, a, b, c, p.channel, g.output, g.channels);
                if (winners[window]
                    == (W)((cell_a * g.size[1].value + cell_b) * g.size[2].value + cell_c))
                    return true;
            }
        }
    }
    return false;
}

// With LAST (overlapping windows), the result is 0 if a later window overwrote the value.
template <typename T, typename W, typename I, bool LAST>
__global__ void max_unpool_gradient(
    const T* __restrict__ gradient, const W* __restrict__ winners, T* __restrict__ out,
    Geometry<I> g) {
    const I count = g.outputs();
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const Place<I> p = place_of(i, g.output, g.channels);
        // An invalid winner is clamped first, so that the index arithmetic cannot overflow.
        const I cells = g.size[0].value * g.size[1].value * g.size[2].value;
        I rest = winners[i] < cells ? (I)winners[i] : cells - 1;
        I at[3];
#pragma unroll
        for (int axis = 2; axis >= 0; --axis) {
            const I next = g.size[axis].quotient(rest);
            const I cell = rest - next * g.size[axis].value;
            at[axis] = clamped(
                g.start(axis, p.at[axis]) + cell * g.dilation[axis].value, g.input[axis].value);
            rest = next;
        }
        T result = gradient[flat_of(
            p.plane, at[0], at[1], at[2], p.channel, g.input, g.channels)];
        if (LAST && overwritten(winners, g, p, at)) result = zero<T>();
        out[i] = result;
    }
}
