// Runs a kernel's threads one after the other, and describes its parameters. The generated file that
// names the kernel includes this after the kernel's code.
#pragma once

struct EmulatedParameter {
    int pointer;    // 1 for a pointer; kind and size are then those of its pointee
    int constant;   // 1 for a pointer to const
    int kind;       // 'b' bool, 'i' signed, 'u' unsigned, 'f' float (half included), 'V' other
    int size;       // 0 for void
    int value_size; // of the parameter itself
};

template <typename T> constexpr int emulated_kind() {
    if (std::is_same<T, bool>::value) return 'b';
    if (std::is_integral<T>::value) return std::is_signed<T>::value ? 'i' : 'u';
    return std::is_floating_point<T>::value ? 'f' : 'V';
}
#ifdef EMULATED_HALF
template <> constexpr int emulated_kind<__half>() { return 'f'; }
#endif

template <typename T> struct EmulatedSize {
    static constexpr int value = sizeof(T);
};
template <> struct EmulatedSize<void> {
    static constexpr int value = 0;
};

template <typename P> constexpr EmulatedParameter emulated_parameter() {
    using Pointee = typename std::remove_pointer<P>::type;
    using T = typename std::remove_cv<Pointee>::type;
    return {std::is_pointer<P>::value, std::is_pointer<P>::value && std::is_const<Pointee>::value,
            emulated_kind<T>(), EmulatedSize<T>::value, (int)sizeof(P)};
}

template <int... N> struct EmulatedNumbers {};
template <int N, int... M> struct EmulatedCount : EmulatedCount<N - 1, N - 1, M...> {};
template <int... M> struct EmulatedCount<0, M...> {
    using type = EmulatedNumbers<M...>;
};

template <typename... P> struct EmulatedKernel {
    void (*kernel)(P...);

    int signature(EmulatedParameter* parameters) const {
        const EmulatedParameter all[] = {emulated_parameter<P>()..., EmulatedParameter()};
        for (unsigned i = 0; i < sizeof...(P); ++i) parameters[i] = all[i];
        return sizeof...(P);
    }
    template <int... N> void call(void* const* args, EmulatedNumbers<N...>) const {
        kernel(*static_cast<typename std::remove_cv<P>::type*>(args[N])...);
    }
    // `order` has one number per thread of the grid; null means in order.
    void run(void* const* args, const unsigned* order, long long first, long long count,
             const unsigned* grid, const unsigned* block) const {
        gridDim = {grid[0], grid[1], grid[2]};
        blockDim = {block[0], block[1], block[2]};
        const unsigned threads = block[0] * block[1] * block[2];
        for (long long i = first; i < first + count; ++i) {
            const long long number = order ? (long long)order[i] : i;
            const unsigned thread = (unsigned)(number % threads);
            const long long in_grid = number / threads;
            threadIdx = {thread % block[0], thread / block[0] % block[1],
                         thread / block[0] / block[1]};
            blockIdx = {(unsigned)(in_grid % grid[0]), (unsigned)(in_grid / grid[0] % grid[1]),
                        (unsigned)(in_grid / grid[0] / grid[1])};
            call(args, typename EmulatedCount<sizeof...(P)>::type());
        }
    }
};

template <typename... P> EmulatedKernel<P...> emulated_kernel(void (*kernel)(P...)) {
    return {kernel};
}

#define EMULATED_EXPORT(...)                                                                  \
    extern "C" int emulated_signature(EmulatedParameter* parameters) {                        \
        return emulated_kernel(&__VA_ARGS__).signature(parameters);                           \
    }                                                                                         \
    extern "C" void emulated_run(void* const* args, const unsigned* order, long long first,   \
                                 long long count, const unsigned* grid, const unsigned* block) { \
        emulated_kernel(&__VA_ARGS__).run(args, order, first, count, grid, block);            \
    }
