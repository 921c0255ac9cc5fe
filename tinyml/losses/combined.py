"""The Dice loss, and sums of losses. The derivations are on the page docs/losses.md."""

from collections.abc import Sequence
from typing import Any

from tinyml.arrays import check_shape
from tinyml.core.number import Number, described
from tinyml.functional.loss import counted_classes
from tinyml.layers.base import scope_of
from tinyml_backends import backend_for
from tinyml_backends.arguments import number, per_axis
from tinyml_backends.arrays import Array, as_floats, quiet, widened


class Dice:
    """1 minus the Dice coefficient of each class, from softmax probabilities; mean over classes.

    Milletari, Navab and Ahmadi, "V-Net", 3DV 2016, with sums in the denominator.

    Parameters
    ----------
    smooth : float
        Added to numerator and denominator, so that a class without pixels counts as found.
    ignore_index : int
        Target value of pixels that are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.losses import Dice
    >>> logits = np.array([[[9.0, -9.0], [-9.0, 9.0]]])
    >>> round(Dice().forward(logits, np.array([[0, 1]])), 4)
    0.0
    """

    smooth = Number(more_than=0)

    def __init__(self, smooth: float = 1.0, ignore_index: int = -100) -> None:
        self.smooth = smooth
        (self.ignore_index,) = per_axis("ignore_index", ignore_index, 1, minimum=-(2**63))
        self._saved: tuple[Any, ...] | None = None

    def __repr__(self) -> str:
        return described(self)

    @quiet
    def forward(self, logits: Array, target: Array) -> float:
        """Loss of logits (samples, classes, …) and integer classes (samples, …); 0 of no targets.

        Raises
        ------
        TypeError
            If ``target`` does not hold integers.
        ValueError
            If the shapes do not fit, or a target is not a class.
        """
        backend = backend_for(logits, target)
        if logits.ndim < 2:
            raise ValueError(
                f"logits have shape {tuple(logits.shape)}; it must be (samples, classes, …)"
            )
        check_shape("target", target, (logits.shape[0], *logits.shape[2:]))
        if target.dtype.kind not in "iu":
            raise TypeError(f"target has dtype {target.dtype}; it must hold integers")
        classes = logits.shape[1]
        with scope_of(logits):
            counted = counted_classes(target, classes, self.ignore_index)
            xp, axes = backend.xp, (0, *range(2, logits.ndim))
            p, _ = backend.activate("softmax", widened(as_floats(logits)), axis=1)
            every = xp.arange(classes).reshape(-1, *(1,) * (logits.ndim - 2))
            counted = xp.expand_dims(counted, 1)
            t = ((xp.expand_dims(target, 1) == every) & counted).astype(p.dtype)
            top = 2 * (p * t).sum(axes, keepdims=True) + self.smooth
            bottom = (p * counted + t).sum(axes, keepdims=True) + self.smooth
            self._saved = p, t, counted, top, bottom, as_floats(logits).dtype
            return float(1 - (top / bottom).mean())

    @quiet
    def backward(self) -> Array:
        """Gradient of the last forward pass with respect to the logits."""
        if self._saved is None:
            raise RuntimeError("Dice: backward needs a forward pass before it")
        p, t, counted, top, bottom, dtype = self._saved
        with scope_of(p):
            slope = (top / bottom - 2 * t) / (bottom * p.shape[1]) * counted
            gradient = backend_for(p).activate_gradient("softmax", slope, p, axis=1)
            return gradient.astype(dtype, copy=False)


class Sum:
    """Weighted sum of losses of the same output and target.

    Parameters
    ----------
    losses : sequence of losses
    weights : sequence of float, optional
        Factor of each; by default 1.

    Examples
    --------
    >>> from tinyml.losses import Dice, SoftmaxCrossEntropy, Sum
    >>> Sum([SoftmaxCrossEntropy(), Dice()], [1.0, 0.5])
    Sum([SoftmaxCrossEntropy(ignore_index=-100), Dice(smooth=1.0, ignore_index=-100)], [1.0, 0.5])
    """

    def __init__(self, losses: Sequence[Any], weights: Sequence[float] | None = None) -> None:
        self.losses = list(losses)
        self._has_run = False
        given = [1.0] * len(self.losses) if weights is None else list(weights)
        self.weights = [number("weights", weight) for weight in given]
        if not self.losses or len(self.losses) != len(self.weights):
            raise ValueError(
                f"weights has {len(self.weights)} numbers; it must have one for each of the "
                f"{len(self.losses)} losses, of which there must be one or more"
            )

    def __repr__(self) -> str:
        return f"Sum({self.losses}, {self.weights})"

    @property
    def ignore_index(self) -> int | None:
        """That of the losses which have one; ``Learner.evaluate`` leaves these targets out."""
        found = (getattr(loss, "ignore_index", None) for loss in self.losses)
        return next((index for index in found if index is not None), None)

    def forward(self, output: Array, target: Array) -> float:
        """Weighted sum of the losses."""
        self._has_run = False  # if one raises, the others have seen another batch than it
        pairs = zip(self.weights, self.losses, strict=True)
        total = float(sum(weight * loss.forward(output, target) for weight, loss in pairs))
        self._has_run = True
        return total

    @quiet
    def backward(self) -> Array:
        """Weighted sum of the gradients."""
        if not self._has_run:
            raise RuntimeError("Sum: backward needs a forward pass before it")
        pairs = zip(self.weights, self.losses, strict=True)
        gradients = [weight * loss.backward() for weight, loss in pairs]
        return sum(gradients[1:], start=gradients[0])
