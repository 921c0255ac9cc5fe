// Converts the user's indices to winners, and checks every index.
#include "common.cuh"

// What an index numbers: cells of its window, or of a plane whose last or first axis is fastest.
enum Counts { WINDOW, PLANE, PLANE_FIRST_AXIS_FASTEST };

// index = plane * of_plane + channel * of_channel + pitch * (position in the plane)
template <typename I> struct Flat {
    I of_plane, of_channel;
    Divisor<I> pitch;
};

// `first_bad` receives the position of the first index that is not an input cell of its own window.
template <typename W, typename I, int COUNTS>
__global__ void winners_from_indices(
    const long long* __restrict__ indices, W* __restrict__ winners,
    unsigned long long* __restrict__ first_bad, Geometry<I> g, Flat<I> flat) {
    const I count = g.outputs();
    const long long limit = COUNTS == WINDOW
        ? (long long)g.size[0].value * g.size[1].value * g.size[2].value
        : (long long)g.input[0].value * g.input[1].value * g.input[2].value * flat.pitch.value;
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const Place<I> p = place_of(i, g.output, g.channels);
        long long index = indices[i];
        if (COUNTS != WINDOW && index >= 0) {
            index -= (long long)p.plane * flat.of_plane + (long long)p.channel * flat.of_channel;
        }
        bool good = index >= 0 && index < limit;
        I rest = good ? (I)index : 0;
        if (COUNTS != WINDOW) {
            const I position = flat.pitch.quotient(rest);
            good = good && position * flat.pitch.value == rest;
            rest = position;
        }
        I winner = 0;
#pragma unroll
        for (int step = 2; step >= 0; --step) {
            const int axis = COUNTS == PLANE_FIRST_AXIS_FASTEST ? 2 - step : step;
            const Divisor<I>& length = COUNTS == WINDOW ? g.size[axis] : g.input[axis];
            const I next = length.quotient(rest);
            const I digit = rest - next * length.value;
            rest = next;
            const I step_of_cell = g.dilation[axis].value;
            const I start = g.start(axis, p.at[axis]);
            I cell = digit;
            if (COUNTS == WINDOW) {
                good = good && g.inside(axis, start + cell * step_of_cell);
            } else {
                const I distance = digit - start;
                cell = distance < 0 ? 0 : g.dilation[axis].quotient(distance);
                good = good && cell < g.size[axis].value && cell * step_of_cell == distance;
            }
            const I pitch = (axis < 1 ? g.size[1].value : 1) * (axis < 2 ? g.size[2].value : 1);
            winner += good ? cell * pitch : 0;
        }
        winners[i] = good ? (W)winner : (W)0;
        if (!good) atomicMin(first_bad, (unsigned long long)i);
    }
}
