"""The linear map of ``torch.nn.functional``, and its gradients."""

from tinyml.arrays import check_dtype, check_shape
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array, as_floats, quiet, widened


@quiet
def linear(input: Array, weight: Array, bias: Array | None = None) -> Array:
    """As ``torch.nn.functional.linear``: ``input`` (…, inputs), ``weight`` (outputs, inputs)."""
    _check(input, weight)
    x = as_floats(input)
    y = backend_for(input, weight).xp.matmul(widened(x), weight.T)
    if bias is not None:
        check_shape("bias", bias, (len(weight),))
        backend_for(input, bias)
        y = y + bias
    return y.astype(x.dtype, copy=False)


@quiet
def linear_gradient(gradient: Array, input: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Gradients of `linear` with respect to ``input``, ``weight`` and ``bias``."""
    _check(input, weight)
    check_shape("gradient", gradient, (*input.shape[:-1], len(weight)))
    xp, dtype = backend_for(gradient, input, weight).xp, as_floats(input).dtype
    g, x = widened(as_floats(gradient)), widened(as_floats(input))
    of_input = xp.matmul(g, weight)
    g, x = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
    gradients = of_input, xp.matmul(g.T, x), g.sum(0)
    return tuple(a.astype(dtype, copy=False) for a in gradients)


def _check(input: Array, weight: Array) -> None:
    check_dtype("input", input)
    check_dtype("weight", weight)
    check_shape("weight", weight, ("outputs", "inputs"))
    if input.ndim == 0 or input.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"input has shape {tuple(input.shape)}; its last length must be that of weight, "
            f"{weight.shape[1]}"
        )
