// Images (N, C, ...) to columns and back.
//
// Columns are (N, C, cells, outputs), or with SAMPLES_LAST (C, cells, outputs, N). The planes of
// the geometry are the N * C images.
#include "common.cuh"

template <typename I> struct Columns {
    Divisor<I> samples, image_channels, cells;

    // Flat index of an entry of the columns.
    template <bool SAMPLES_LAST>
    __device__ I flat(const Geometry<I>& g, I plane, I cell, I a, I b, I c) const {
        const I sample = image_channels.quotient(plane);
        const I row = SAMPLES_LAST ? plane - sample * image_channels.value : plane;
        const I entry = flat_of(row * cells.value + cell, a, b, c, (I)0, g.output, g.channels);
        return SAMPLES_LAST ? entry * samples.value + sample : entry;
    }
};

template <typename T, typename I, bool SAMPLES_LAST>
__global__ void im2col(
    const T* __restrict__ x, T* __restrict__ cols, Geometry<I> g, Columns<I> columns) {
    const I count = g.outputs() * columns.cells.value;
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const I entry = SAMPLES_LAST ? columns.samples.quotient(i) : i;
        const Place<I> p = place_of(entry, g.output, g.channels);
        const I row = columns.cells.quotient(p.plane);
        const I plane = SAMPLES_LAST
            ? (i - entry * columns.samples.value) * columns.image_channels.value + row
            : row;
        I rest = p.plane - row * columns.cells.value;
        I at[3];
        bool inside = true;
#pragma unroll
        for (int axis = 2; axis >= 0; --axis) {
            const I next = g.size[axis].quotient(rest);
            const I cell = rest - next * g.size[axis].value;
            at[axis] = g.start(axis, p.at[axis]) + cell * g.dilation[axis].value;
            inside = inside && g.inside(axis, at[axis]);
            rest = next;
        }
        cols[i] = inside
            ? x[flat_of(plane, at[0], at[1], at[2], (I)0, g.input, g.channels)]
            : zero<T>();
    }
}

// Window along one axis whose cell `cell` is at `position`, or -1 if there is none.
template <typename I>
__device__ inline I window_at(const Geometry<I>& g, int axis, I position, I cell) {
    const I distance = position + g.before[axis] - cell * g.dilation[axis].value;
    if (distance < 0) return -1;
    const I window = g.stride[axis].quotient(distance);
    return window * g.stride[axis].value == distance && window < g.output[axis].value ? window : -1;
}

// With ADD, the entries of an input cell are summed in ascending order of the columns' rows;
// without it, the last one is stored.
template <typename T, typename I, bool SAMPLES_LAST, bool ADD>
__global__ void col2im(
    const T* __restrict__ cols, T* __restrict__ out, Geometry<I> g, Columns<I> columns) {
    const I count = g.inputs();
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const Place<I> p = place_of(i, g.input, g.channels);
        typename Sum<T>::type total = 0;
        T last = zero<T>();
        I row = 0;  // first cell of the window's current row
        for (I cell_a = 0; cell_a < g.size[0].value; ++cell_a) {
            const I a = window_at(g, 0, p.at[0], cell_a);
            for (I cell_b = 0; cell_b < g.size[1].value; ++cell_b, row += g.size[2].value) {
                const I b = window_at(g, 1, p.at[1], cell_b);
                if (a < 0 || b < 0) continue;
                for (I cell_c = 0; cell_c < g.size[2].value; ++cell_c) {
                    const I c = window_at(g, 2, p.at[2], cell_c);
                    if (c < 0) continue;
                    last = cols[columns.template flat<SAMPLES_LAST>(
                        g, p.plane, row + cell_c, a, b, c)];
                    if (ADD) total += number(last);
                }
            }
        }
        out[i] = ADD ? rounded<T>(total) : last;
    }
}
