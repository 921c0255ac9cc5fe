// Batch normalisation of images (samples, channels, pixels): partial sums over samples and pixels,
// which CuPy adds up, and the elementwise operations in one pass each.
#include "common.cuh"

template <typename I> struct Images {
    I per_channel;  // samples * pixels
    Divisor<I> pixels, partials, channels;

    // Flat index of element `e` of a channel; elements are numbered over samples and pixels.
    __device__ I flat(I channel, I e) const {
        const I sample = pixels.quotient(e);
        return (sample * channels.value + channel) * pixels.value + e - sample * pixels.value;
    }
    __device__ I channel_of(I flat) const {
        const I image = pixels.quotient(flat);
        return image - channels.quotient(image) * channels.value;
    }
};

// Partial sums of squared deviations from the channel's mean, (channels, partials). Partial sum p
// of a channel takes elements p, p + partials, ..., so that loads of adjacent threads coalesce.
template <typename T, typename I>
__global__ void squared_deviations(
    const T* __restrict__ x, const T* __restrict__ mean, T* __restrict__ sums, Images<I> images) {
    const I count = images.channels.value * images.partials.value;
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const I partials = images.partials.value, channel = images.partials.quotient(i);
        T sum = 0;
        for (I e = i - channel * partials; e < images.per_channel; e += partials) {
            const T deviation = x[images.flat(channel, e)] - mean[channel];
            sum += deviation * deviation;
        }
        sums[i] = sum;
    }
}

template <typename T, typename I>
__global__ void normalize(
    const T* __restrict__ x, const T* __restrict__ mean, const T* __restrict__ inverse_deviation,
    const T* __restrict__ scale, const T* __restrict__ shift, T* __restrict__ normalized,
    T* __restrict__ y, I count, Images<I> images) {
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const I channel = images.channel_of(i);
        const T value = (x[i] - mean[channel]) * inverse_deviation[channel];
        normalized[i] = value;
        y[i] = value * scale[channel] + shift[channel];
    }
}

// Partial sums of the gradient and of gradient * normalized, each (channels, partials).
template <typename T, typename I>
__global__ void gradient_sums(
    const T* __restrict__ gradient, const T* __restrict__ normalized, T* __restrict__ sums,
    T* __restrict__ products, Images<I> images) {
    const I count = images.channels.value * images.partials.value;
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const I partials = images.partials.value, channel = images.partials.quotient(i);
        T sum = 0, product = 0;
        for (I e = i - channel * partials; e < images.per_channel; e += partials) {
            const I at = images.flat(channel, e);
            sum += gradient[at];
            product += gradient[at] * normalized[at];
        }
        sums[i] = sum;
        products[i] = product;
    }
}

// (gradient - normalized * share - mean) * slope, with one share, mean and slope per channel.
template <typename T, typename I>
__global__ void normalize_gradient(
    const T* __restrict__ gradient, const T* __restrict__ normalized, const T* __restrict__ mean,
    const T* __restrict__ share, const T* __restrict__ slope, T* __restrict__ out, I count,
    Images<I> images) {
    for (I i = first_thread<I>(); i < count; i += all_threads<I>()) {
        const I channel = images.channel_of(i);
        out[i] = (gradient[i] - normalized[i] * share[channel] - mean[channel]) * slope[channel];
    }
}
