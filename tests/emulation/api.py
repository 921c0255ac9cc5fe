"""The names of CuPy in the stand-in, with their parameters.

A test compares these tables with the real CuPy. Add names when the library needs them.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: Functions, name to parameters.
FUNCTIONS: dict[str, str] = {
    # creation
    "array": "obj dtype copy order subok ndmin blocking",
    "asarray": "a dtype order copy blocking",
    "ascontiguousarray": "a dtype",
    "asfortranarray": "a dtype",
    "asnumpy": "a stream order out blocking",
    "from_dlpack": "array device copy",
    "empty": "shape dtype order",
    "zeros": "shape dtype order",
    "ones": "shape dtype order",
    "full": "shape fill_value dtype order",
    "empty_like": "prototype dtype order subok shape",
    "zeros_like": "a dtype order subok shape",
    "ones_like": "a dtype order subok shape",
    "full_like": "a fill_value dtype order subok shape",
    "arange": "start stop step dtype",
    "linspace": "start stop num endpoint retstep dtype axis",
    "eye": "N M k dtype order",
    "indices": "dimensions dtype",
    # shapes
    "reshape": "a newshape order copy",
    "ravel": "a order",
    "transpose": "a axes",
    "moveaxis": "a source destination",
    "swapaxes": "a axis1 axis2",
    "expand_dims": "a axis",
    "squeeze": "a axis",
    "broadcast_to": "array shape",
    "concatenate": "tup axis out dtype casting",
    "stack": "tup axis out dtype casting",
    "append": "arr values axis",
    "tile": "A reps",
    "repeat": "a repeats axis",
    "flip": "a axis",
    "roll": "a shift axis",
    "pad": "array pad_width mode constant_values",
    # selection
    "where": "condition x y",
    "take": "a indices axis out",
    "take_along_axis": "a indices axis",
    "put_along_axis": "arr indices values axis",
    "nonzero": "a",
    "flatnonzero": "a",
    "argwhere": "a",
    "count_nonzero": "a axis",
    "argsort": "a axis kind",
    "sort": "a axis kind",
    "argmax": "a axis dtype out keepdims",
    "argmin": "a axis dtype out keepdims",
    "searchsorted": "a v side sorter",
    "unravel_index": "indices dims order",
    "nan_to_num": "x copy nan posinf neginf",
    # reductions and products
    "sum": "a axis dtype out keepdims",
    "prod": "a axis dtype out keepdims",
    "mean": "a axis dtype out keepdims",
    "var": "a axis dtype out ddof keepdims",
    "std": "a axis dtype out ddof keepdims",
    "max": "a axis out keepdims",
    "min": "a axis out keepdims",
    "amax": "a axis out keepdims",
    "amin": "a axis out keepdims",
    "any": "a axis out keepdims",
    "all": "a axis out keepdims",
    "cumsum": "a axis dtype out",
    "clip": "a a_min a_max out",
    "round": "a decimals out",
    "dot": "a b out",
    "tensordot": "a b axes",
    "einsum": "operands dtype optimize",
    "matmul": "args out casting dtype",
    "array_equal": "a1 a2 equal_nan",
    "may_share_memory": "a b max_work",
    "allclose": "a b rtol atol equal_nan",
    "isclose": "a b rtol atol equal_nan",
    # types
    "result_type": "arrays_and_dtypes",
    "can_cast": "from_ to casting",
    "promote_types": "type1 type2",
}

#: Functions that take any number of positional arguments.
VARIADIC = {"einsum", "matmul", "result_type"}

#: Functions that wait for the device: their result, or its shape, depends on values.
SYNCHRONISING = {"nonzero", "flatnonzero", "argwhere", "asnumpy"}

#: Functions whose first argument is a sequence of arrays, not an array.
OF_SEQUENCES = {"concatenate", "stack"}

#: Elementwise functions; all take out, dtype and casting.
UFUNCS = _words(
    "abs absolute add arctan2 bitwise_and bitwise_not bitwise_or bitwise_xor ceil copysign cos "
    "divide equal exp exp2 expm1 fabs floor floor_divide fmax fmin fmod greater greater_equal "
    "hypot invert isfinite isinf isnan left_shift less less_equal log log10 log1p log2 logical_and "
    "logical_not logical_or logical_xor maximum minimum mod multiply negative nextafter not_equal "
    "positive power reciprocal remainder right_shift rint sign signbit sin sqrt square subtract "
    "tan tanh true_divide trunc"
)

_INTEGERS = ("int32", "uint32")
#: Elementwise functions with ``at``, and the dtypes it takes on CUDA.
AT: dict[str, tuple[str, ...]] = {
    "add": (*_INTEGERS, "uint64", "float16", "float32", "float64"),
    "subtract": _INTEGERS,
    "maximum": (*_INTEGERS, "uint64", "float32", "float64"),
    "minimum": (*_INTEGERS, "uint64", "float32", "float64"),
    "bitwise_and": (*_INTEGERS, "int64", "uint64"),
    "bitwise_or": (*_INTEGERS, "int64", "uint64"),
    "bitwise_xor": (*_INTEGERS, "int64", "uint64"),
}

#: Constants and types, the same objects as NumPy's.
FROM_NUMPY = _words(
    "bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 "
    "complex128 intp integer signedinteger unsignedinteger floating inexact number generic dtype "
    "finfo iinfo newaxis inf nan pi e"
)

#: Methods of ``ndarray``, name to parameters; a leading * takes any number.
METHODS: dict[str, str] = {
    "all": "axis out keepdims",
    "any": "axis out keepdims",
    "argmax": "axis out dtype keepdims",
    "argmin": "axis out dtype keepdims",
    "argsort": "axis kind",
    "astype": "dtype order casting subok copy",
    "clip": "min max out",
    "copy": "order",
    "cumsum": "axis dtype out",
    "dot": "b out",
    "fill": "value",
    "flatten": "order",
    "get": "stream order out blocking",
    "item": "",
    "max": "axis out keepdims",
    "mean": "axis dtype out keepdims",
    "min": "axis out keepdims",
    "nonzero": "",
    "prod": "axis dtype out keepdims",
    "ravel": "order",
    "repeat": "repeats axis",
    "reshape": "*shape order copy",
    "round": "decimals out",
    "sort": "axis kind",
    "squeeze": "axis",
    "std": "axis dtype out ddof keepdims",
    "sum": "axis dtype out keepdims",
    "swapaxes": "axis1 axis2",
    "take": "indices axis out",
    "tobytes": "order",
    "tolist": "",
    "transpose": "*axes",
    "var": "axis dtype out ddof keepdims",
    "view": "dtype",
}

ATTRIBUTES = _words(
    "T base data device dtype flags itemsize nbytes ndim shape size strides "
    "__cuda_array_interface__ __dlpack__ __dlpack_device__ __array_ufunc__"
)

#: Dotted names in ``cupy.cuda``.
CUDA = _words(
    "Device Device.id Device.use Device.synchronize Device.compute_capability "
    "Event Event.record Event.synchronize Stream Stream.null Stream.use Stream.synchronize "
    "Stream.record get_current_stream get_elapsed_time is_available "
    "get_device_id compiler.CompileException driver.CUDADriverError "
    "runtime.CUDARuntimeError runtime.deviceSynchronize runtime.driverGetVersion runtime.getDevice "
    "runtime.getDeviceCount runtime.getDeviceProperties runtime.runtimeGetVersion "
    "runtime.setDevice runtime.pointerGetAttributes "
    "compiler.compile_using_nvrtc nvrtc.getVersion"
)


def bind(name: str, parameters: str, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    """Refuse arguments that CuPy does not take."""
    names = parameters.split()
    many = name in VARIADIC or parameters.startswith("*")
    if not many and len(args) > len(names):
        raise TypeError(f"{name}() takes {len(names)} arguments, and was passed {len(args)}")
    taken = () if many else names[: len(args)]
    for keyword in kwargs:
        if keyword not in names or keyword in taken:
            raise TypeError(f"{name}() got an unexpected or repeated argument {keyword!r}")
