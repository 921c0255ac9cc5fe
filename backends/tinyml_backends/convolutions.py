"""The windows of convolutions, from users' arguments."""

from collections.abc import Sequence
from dataclasses import replace

from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis
from tinyml_backends.geometry import Window


def window_of(
    axes: int,
    size: IntPerAxis,
    stride: IntPerAxis,
    padding: PaddingPerAxis | str,
    dilation: IntPerAxis,
) -> Window:
    """As `Window.of`; ``padding`` may also be "valid", which is 0, or "same".

    "same" keeps the input's shape. Where its zeros are odd in number, there is one more after the
    input, as in PyTorch.
    """
    if not isinstance(padding, str):
        return Window.of(axes, size, stride, padding, dilation)
    window = Window.of(axes, size, stride, 0, dilation)
    if padding == "valid":
        return window
    if padding != "same":
        raise ValueError(f"padding is {padding!r}; as a str it must be 'same' or 'valid'")
    if max(window.stride) > 1:
        raise ValueError(f"stride is {stride!r}; padding='same' needs stride 1")
    pairs = [((e - 1) // 2, e // 2) for e in window.extent]
    return Window.of(axes, size, stride, pairs, dilation)


def transposed(name: str, output_padding: tuple[int, ...], window: Window) -> Window:
    """The window of a transposed convolution: ``output_padding`` is less padding after the input.

    The padding may become negative. ``name`` is that of the argument, for the error.
    """
    allowed = map(max, window.stride, window.dilation)
    if any(more >= limit for more, limit in zip(output_padding, allowed, strict=True)):
        raise ValueError(
            f"{name} is {output_padding}; it must be below the stride {window.stride} or the "
            f"dilation {window.dilation}"
        )
    pairs = zip(window.padding, output_padding, strict=True)
    return replace(window, padding=tuple((before, after - more) for (before, after), more in pairs))


def adjoint(window: Window, input_shape: Sequence[int], output_shape: Sequence[int]) -> Window:
    """The window of the convolution that is the adjoint of one with stride 1, with turned weights.

    Its padding may be negative.
    """
    lengths = zip(window.extent, window.padding, input_shape, output_shape, strict=True)
    pairs = ((e - 1 - before, n + before - out) for e, (before, _), n, out in lengths)
    return replace(window, padding=tuple(pairs))
