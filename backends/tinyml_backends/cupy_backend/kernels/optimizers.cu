// One step of an optimizer, in place and in one pass, with the order of operations of
// generic/steps.py.
#include "common.cuh"

template <typename T, typename I>
__global__ void sgd(
    T* __restrict__ tensor, const T* __restrict__ gradient, T* __restrict__ velocity,
    T learning_rate, T momentum, I count) {
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const T step = velocity[i] * momentum + gradient[i];
        velocity[i] = step;
        tensor[i] -= learning_rate * step;
    }
}

// A rest is 1 - decay. The rate includes the bias correction of the first moment; correction is that
// of the second moment.
template <typename T, typename I>
__global__ void adam(
    T* __restrict__ tensor, const T* __restrict__ gradient, T* __restrict__ first,
    T* __restrict__ second, T first_decay, T first_rest, T second_decay, T second_rest, T rate,
    T correction, T epsilon, I count) {
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const T slope = gradient[i];
        const T mean = first[i] * first_decay + first_rest * slope;
        const T square = second[i] * second_decay + second_rest * slope * slope;
        first[i] = mean;
        second[i] = square;
        tensor[i] -= rate * mean / (sqrt(square / correction) + epsilon);
    }
}
