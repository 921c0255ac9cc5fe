"""Losses. The derivation is on the page docs/cross_entropy.md."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from tinyml.arrays import check_shape
from tinyml.layers.base import scope_of
from tinyml_backends import backend_for
from tinyml_backends.arguments import per_axis
from tinyml_backends.arrays import Array, quiet


class _Saved(NamedTuple):
    """What ``forward`` saves for ``backward``."""

    exponentials: Array
    total: Array
    """Sum of the exponentials over the classes."""
    index: Array
    """Class of each target, with an axis of length 1 for the classes; 0 if not counted."""
    counted: Array
    targets: int
    """Number of counted targets, or 1 if there are none."""


class SoftmaxCrossEntropy:
    """Cross-entropy of the softmax over classes, averaged over all counted targets.

    Parameters
    ----------
    ignore_index : int
        Target value that is not counted.

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

    def __init__(self, ignore_index: int = -100) -> None:
        (self.ignore_index,) = per_axis("ignore_index", ignore_index, 1, minimum=-(2**63))
        self._has_warned = False
        self._saved: _Saved | None = None
        self._gradient: Array | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(ignore_index={self.ignore_index})"

    @quiet
    def forward(self, logits: Array, target: Array) -> float:
        """Mean loss; 0 where no target is counted, with a `UserWarning` the first time.

        Parameters
        ----------
        logits : float array, (samples, classes, *spatial)
        target : integer array, (samples, *spatial)
            Class of each sample or pixel, or ``ignore_index``.

        Raises
        ------
        TypeError
            If ``target`` does not hold integers.
        ValueError
            If the logits are not floats with two axes or more, the shapes do not fit, or a target
            is not a class.
        """
        with scope_of(logits):
            return self._forward(backend_for(logits, target).xp, logits, target)

    def _forward(self, xp: Any, logits: Array, target: Array) -> float:
        if logits.ndim < 2 or logits.dtype.kind != "f":
            raise ValueError(
                f"logits have shape {tuple(logits.shape)} and dtype {logits.dtype}; they must be "
                "floats (samples, classes, …)"
            )
        check_shape("target", target, (logits.shape[0], *logits.shape[2:]))
        logits = logits.astype(xp.result_type(logits, np.float32), copy=False)
        if target.dtype.kind not in "iu":
            raise TypeError(f"target has dtype {target.dtype}; it must hold integers")
        counted = target != self.ignore_index
        classes = logits.shape[1]
        wrong = counted & ((target < 0) | (target >= classes))
        if bool(wrong.any()):
            first = target.reshape(-1)[int(wrong.reshape(-1).argmax())]
            raise ValueError(
                f"target holds {int(first)}; it must be a class from 0 to {classes - 1}, or "
                f"{self.ignore_index}, which is not counted"
            )
        count = int(counted.sum())
        if count == 0 and target.size and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"every target is {self.ignore_index}, the ignore_index of {type(self).__name__}, "
                "so that the loss and its gradient are 0; leave such batches out, or give another "
                "ignore_index",
                stacklevel=4,
            )
        count = max(1, count)
        index = xp.expand_dims(xp.where(counted, target, 0), 1)

        shifted = logits - logits.max(1, keepdims=True)
        chosen = xp.take_along_axis(shifted, index, 1)[:, 0]
        exponentials = xp.exp(shifted, out=shifted)
        total = exponentials.sum(1, keepdims=True)
        losses = xp.where(counted, xp.log(total[:, 0]) - chosen, logits.dtype.type(0))
        self._saved, self._gradient = _Saved(exponentials, total, index, counted, count), None
        return float(losses.sum()) / count

    @quiet
    def backward(self) -> Array:
        """Gradient of the last forward pass with respect to the logits.

        Raises
        ------
        RuntimeError
            If there was no forward pass.
        """
        if self._saved is not None:
            with scope_of(self._saved.total):
                self._gradient, self._saved = _gradient(*self._saved), None
        if self._gradient is None:
            raise RuntimeError("SoftmaxCrossEntropy: backward needs a forward pass before it")
        return self._gradient


def _gradient(
    exponentials: Array, total: Array, index: Array, counted: Array, targets: int
) -> Array:
    """Softmax, minus 1 at the target, divided by ``targets``; overwrites ``exponentials``."""
    xp, probability = backend_for(total).xp, exponentials
    probability /= total
    of_target = xp.take_along_axis(probability, index, 1) - 1
    xp.put_along_axis(probability, index, of_target, 1)
    probability *= xp.expand_dims(counted, 1)
    probability /= targets
    return probability
