"""Softmax cross-entropy. The derivation is on the page docs/losses.md."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinyml.arrays import check_shape
from tinyml.core.number import Number
from tinyml.functional.loss import counted_classes, cross_entropy, cross_entropy_gradient
from tinyml.layers.base import scope_of
from tinyml_backends import backend_for
from tinyml_backends.arguments import number, per_axis
from tinyml_backends.arrays import Array, quiet, widened


class SoftmaxCrossEntropy:
    """Cross-entropy of the softmax over classes, averaged over all counted targets.

    Parameters
    ----------
    ignore_index : int
        Target value that is not counted.
    class_weights : sequence of float, optional
        Factor of each class; the mean is over the factors of the targets. At least 0.
    label_smoothing : float
        Share of the uniform distribution in each target, from 0 to 1 (Szegedy et al., CVPR 2016).

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.losses import SoftmaxCrossEntropy
    >>> loss = SoftmaxCrossEntropy()
    >>> round(loss.forward(np.zeros((1, 2, 3)), np.array([[0, 1, 1]])), 4)
    0.6931
    >>> loss.backward()[0, 1].round(4)
    array([ 0.1667, -0.1667, -0.1667])
    """

    label_smoothing = Number(at_least=0, at_most=1)

    def __init__(
        self,
        ignore_index: int = -100,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        if class_weights is not None:
            if not hasattr(class_weights, "__len__"):
                raise TypeError(
                    f"class_weights is {class_weights!r}; it must hold a number for each class"
                )
            self.class_weights = [number("class_weights", w, at_least=0) for w in class_weights]
        (self.ignore_index,) = per_axis("ignore_index", ignore_index, 1, minimum=-(2**63))
        self._has_warned = False
        #: A function that makes the gradient, and its arguments.
        self._saved: tuple[Callable[..., Array], tuple[Any, ...], Any] | None = None
        self._gradient: Array | None = None

    def __repr__(self) -> str:
        options = [f"ignore_index={self.ignore_index}"]
        if self.class_weights is not None:
            options.append(f"class_weights={self.class_weights}")
        if self.label_smoothing:
            options.append(f"label_smoothing={self.label_smoothing}")
        return f"{type(self).__name__}({', '.join(options)})"

    @quiet
    def forward(self, logits: Array, target: Array) -> float:
        """Mean loss; 0 where no target is counted, with a `UserWarning` the first time.

        Parameters
        ----------
        logits : float array, (samples, classes, *spatial)
        target : integer array, (samples, *spatial), or float array shaped like ``logits``
            Class of each sample or pixel, or ``ignore_index``; or probabilities of the classes.

        Raises
        ------
        TypeError
            If ``target`` holds neither integers nor floats.
        ValueError
            If the logits are not floats with two axes or more, the shapes do not fit, a target is
            not a class, or a probability is NaN.
        """
        with scope_of(logits):
            return self._forward(backend_for(logits, target).xp, logits, target)

    def _forward(self, xp: Any, logits: Array, target: Array) -> float:
        if logits.ndim < 2 or logits.dtype.kind != "f":
            raise ValueError(
                f"logits have shape {tuple(logits.shape)} and dtype {logits.dtype}; they must be "
                "floats (samples, classes, …)"
            )
        is_float = target.dtype.kind == "f"
        if target.dtype.kind not in "iuf" or (is_float and target.shape != logits.shape):
            raise TypeError(
                f"target has dtype {target.dtype}; it must hold integers (classes), or "
                f"probabilities of the logits' shape, {tuple(logits.shape)}"
            )
        if is_float:
            return self._general(xp, logits, target, target.size)
        check_shape("target", target, (logits.shape[0], *logits.shape[2:]))
        given, logits = logits, logits.astype(xp.result_type(logits, np.float32), copy=False)
        counted = counted_classes(target, logits.shape[1], self.ignore_index)
        count = int(counted.sum())
        if count == 0 and target.size and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"every target is {self.ignore_index}, the ignore_index of {type(self).__name__}, "
                "so that the loss and its gradient are 0; leave such batches out, or give another "
                "ignore_index",
                stacklevel=4,
            )
        if self.label_smoothing or self.class_weights is not None:
            return self._general(xp, given, target, count)
        count = max(1, count)
        classes = xp.where(counted, target, 0).astype(np.int64, copy=False)
        backend = backend_for(logits)
        losses, *kept = backend.class_losses(logits, classes, counted)
        make = backend.class_losses_gradient
        self._saved = make, (*kept, classes, counted, count), given.dtype
        self._gradient = None
        return float(losses.sum()) / count

    def _general(self, xp: Any, logits: Array, target: Array, count: int) -> float:
        """Loss with smoothing, weights or probabilities; 0 if ``count`` targets are none."""
        weights, classes = self.class_weights, logits.shape[1]
        if weights is not None and len(weights) != classes:
            raise ValueError(
                f"class_weights has {len(weights)} numbers; it must have one for each of the "
                f"{classes} classes"
            )
        weight = None if weights is None else xp.asarray(np.array(weights, np.float64))
        options: dict[str, Any] = {
            "weight": weight,
            "ignore_index": self.ignore_index,
            "label_smoothing": self.label_smoothing,
        }
        loss = float(cross_entropy(widened(logits), target, **options)) if count else 0.0
        make = partial(cross_entropy_gradient, 1.0, **options)
        self._saved = make, (logits, target), logits.dtype
        self._gradient = None
        return loss

    @quiet
    def backward(self) -> Array:
        """Gradient of the last forward pass with respect to the logits.

        Raises
        ------
        RuntimeError
            If there was no forward pass.
        """
        if self._saved is not None:
            make, arguments, dtype = self._saved
            with scope_of(arguments[0]):
                self._gradient = make(*arguments).astype(dtype, copy=False)
            self._saved = None
        if self._gradient is None:
            raise RuntimeError("SoftmaxCrossEntropy: backward needs a forward pass before it")
        return self._gradient
