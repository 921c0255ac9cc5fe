"""Metrics that are exact over batches of any size: counts are added, and divided at the end.

A metric compares scores (samples, classes, …), such as logits or probabilities, with integer
classes (samples, …). The class with the largest score is the predicted one; of several the first,
and NaN counts as the largest. Targets equal to ``ignore_index`` are left out. The arrays are those
of any backend.

A ratio of nothing is NaN: the accuracy of no targets, and the IoU, Dice and F1 of a class that is
neither in the targets nor predicted. A mean over classes leaves such classes out, and is NaN if
none remains. A class that is predicted but not in the targets, or the other way round, counts as 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tinyml.arrays import check_shape, to_numpy
from tinyml.core.number import described
from tinyml.functional.loss import counted_classes
from tinyml.layers.base import scope_of
from tinyml_backends import backend_for
from tinyml_backends.arguments import integer, per_axis
from tinyml_backends.arrays import Array


class Metric(Protocol):
    """What `Learner.evaluate` computes over batches; its name is ``name``, or its class's."""

    def reset(self) -> None:
        """Forget all batches."""

    def update(self, output: Array, target: Array) -> None:
        """Add a batch."""

    def value(self) -> Any:
        """Value over all batches since `reset`, as plain data."""


def named(metrics: Iterable[Metric] | Mapping[str, Metric]) -> dict[str, Metric]:
    """Metrics by their names.

    Raises
    ------
    TypeError
        If one is no metric.
    ValueError
        If two have the same name, or one is named "loss".
    """
    if not isinstance(metrics, Iterable) or isinstance(metrics, str):
        raise TypeError(f"metrics is {metrics!r}; it must hold metrics, such as [IoU()]")
    if not isinstance(metrics, Mapping):
        pairs = [(_name(metric), metric) for metric in metrics]
    else:
        pairs = list(metrics.items())
    result: dict[str, Metric] = {}
    for name, metric in pairs:
        if isinstance(metric, type):
            raise TypeError(f"metrics holds the class {metric.__name__}; it must be called")
        if not all(hasattr(metric, method) for method in ("reset", "update", "value")):
            raise TypeError(f"metrics holds {metric!r}; it must hold metrics, such as IoU()")
        if name == "loss" or name in result:
            raise ValueError(
                f"metrics has {'one' if name == 'loss' else 'two'} of the name {name!r}; give "
                "other names, metrics={name: metric}"
            )
        result[name] = metric
    return result


def _name(metric: Metric) -> str:
    return str(getattr(metric, "name", type(metric).__name__))


class _OfClasses:
    """Checks the arrays of a metric of classes, and finds the targets that count."""

    def __init__(self, ignore_index: int) -> None:
        (self.ignore_index,) = per_axis("ignore_index", ignore_index, 1, minimum=-(2**63))
        self.reset()

    def __repr__(self) -> str:
        return described(self)

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError

    def update(self, output: Array, target: Array) -> None:
        """Add a batch of scores (samples, classes, …) and integer classes (samples, …).

        Raises
        ------
        TypeError
            If ``target`` does not hold integers, or the arrays belong to different backends.
        ValueError
            If the shapes do not fit, a target is not a class, or an earlier batch had another
            number of classes. The batch does not count then.
        """
        backend_for(output, target)
        if output.ndim < 2 or output.shape[1] < 1:
            raise ValueError(
                f"output has shape {tuple(output.shape)}; it must be (samples, classes, …)"
            )
        check_shape("target", target, (output.shape[0], *output.shape[2:]))
        if target.dtype.kind not in "iu":
            raise TypeError(f"target has dtype {target.dtype}; it must hold integers (classes)")
        with scope_of(output):
            counted = counted_classes(target, output.shape[1], self.ignore_index)
            self._add(output, target, counted)

    def _add(self, output: Array, target: Array, counted: Array) -> None:
        """Add a batch, of which the targets where ``counted`` is true count."""
        raise NotImplementedError


class Accuracy(_OfClasses):
    """Share of the targets whose class has the largest score.

    Parameters
    ----------
    ignore_index : int
        Target value that does not count.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.metrics import Accuracy
    >>> accuracy = Accuracy()
    >>> accuracy.update(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    >>> accuracy.update(np.array([[0.3, 0.7]]), np.array([1]))
    >>> round(accuracy.value(), 4)
    0.6667
    """

    name = "accuracy"

    def __init__(self, ignore_index: int = -100) -> None:
        super().__init__(ignore_index)

    def reset(self) -> None:
        """Forget all batches."""
        self.right = self.targets = 0

    def value(self) -> float:
        """Share of right targets; NaN of none."""
        return self.right / self.targets if self.targets else float("nan")

    def _add(self, output: Array, target: Array, counted: Array) -> None:
        self.right += int((self._right(output, target) & counted).sum())
        self.targets += int(counted.sum())

    def _right(self, output: Array, target: Array) -> Array:
        """Where the target's class is found."""
        return output.argmax(1) == target


class TopK(Accuracy):
    """Share of the targets whose class is among the ``k`` with the largest scores.

    Of equal scores the first is the largest, as for `Accuracy`, which equals ``TopK(1)``.

    Parameters
    ----------
    k : int
        At least 1, and at most the number of classes.
    ignore_index : int
        Target value that does not count.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.metrics import TopK
    >>> top2 = TopK(2)
    >>> top2.update(np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), np.array([1, 2]))
    >>> top2.name, top2.value()
    ('top2', 0.5)
    """

    def __init__(self, k: int, ignore_index: int = -100) -> None:
        self.k = integer("k", k, 1)
        self.name = f"top{self.k}"
        super().__init__(ignore_index)

    def _right(self, output: Array, target: Array) -> Array:
        xp, classes = backend_for(output).xp, output.shape[1]
        if self.k > classes:
            raise ValueError(f"k is {self.k}; it must be at most {classes}, the number of classes")
        index = xp.expand_dims(xp.where((target >= 0) & (target < classes), target, 0), 1)
        index = index.astype(np.int64)  # of unsigned integers too
        its = xp.take_along_axis(output, index, 1)
        every = xp.arange(classes).reshape(-1, *(1,) * (output.ndim - 2))
        nan, its_nan = output != output, its != its
        above = (output > its) | (nan & ~its_nan)
        level = (output == its) | (nan & its_nan)
        before = above | (level & (every < index))
        return before.sum(1) < self.k


class Confusion(_OfClasses):
    """Confusion matrix: a row for each class of the targets, a column for each predicted class.

    Parameters
    ----------
    ignore_index : int
        Target value that does not count.

    Attributes
    ----------
    counts : int64 array, (classes, classes), or None
        The matrix; None before the first batch.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.metrics import Confusion
    >>> confusion = Confusion()
    >>> confusion.update(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1]))
    >>> confusion.value()
    [[1, 0], [1, 1]]
    """

    name = "confusion"
    counts: NDArray[np.int64] | None

    def __init__(self, ignore_index: int = -100) -> None:
        super().__init__(ignore_index)

    def reset(self) -> None:
        """Forget all batches."""
        self.counts = None

    def value(self) -> Any:
        """The matrix as lists of ints; an empty list before the first batch."""
        return [] if self.counts is None else self.counts.tolist()

    def _add(self, output: Array, target: Array, counted: Array) -> None:
        classes = output.shape[1]
        if self.counts is not None and len(self.counts) != classes:
            raise ValueError(
                f"output has {classes} classes; it must have {len(self.counts)}, as before"
            )
        predicted, found = to_numpy(output.argmax(1)), to_numpy(counted)
        pairs = to_numpy(target)[found].astype(np.int64) * classes + predicted[found]
        counts = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
        self.counts = counts if self.counts is None else self.counts + counts


class _Overlap(Confusion):
    """Mean over classes of a ratio of counts."""

    def __init__(self, classes: Sequence[int] | None = None, ignore_index: int = -100) -> None:
        self.classes = classes
        if classes is not None:
            if not hasattr(classes, "__len__") or not len(classes):
                raise TypeError(f"classes is {classes!r}; it must be None or a list of classes")
            self.classes = list(per_axis("classes", classes, len(classes), minimum=0))
        super().__init__(ignore_index)

    def value(self) -> float:
        """Mean over the classes that occur; NaN if none does."""
        values = self.per_class()
        if self.classes is not None and self.counts is not None:
            values = values[self.classes]
        occurring = values[~np.isnan(values)]
        return float(occurring.mean()) if len(occurring) else float("nan")

    def per_class(self) -> NDArray[np.float64]:
        """Value of each class, (classes,), NaN if it does not occur; empty before a batch."""
        if self.counts is None:
            return np.zeros(0)
        both = np.diag(self.counts)
        return self._ratio(both, self.counts.sum(1) + self.counts.sum(0))

    def _ratio(self, both: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Value of each class, from the size of the intersection and the sum of both sizes."""
        raise NotImplementedError

    def _add(self, output: Array, target: Array, counted: Array) -> None:
        if self.classes is not None and max(self.classes) >= output.shape[1]:
            raise ValueError(
                f"classes is {self.classes}; every class must be less than {output.shape[1]}, the "
                "number of classes"
            )
        super()._add(output, target, counted)


class IoU(_Overlap):
    """Intersection over union (Jaccard index), mean over classes.

    That of a class is ``both / (targets + predicted − both)``, with the numbers of targets of the
    class, of predictions of it, and of those that are both.

    Parameters
    ----------
    classes : sequence of int, optional
        Classes of the mean, for example ``[1]`` to leave out the background; by default all.
    ignore_index : int
        Target value that does not count.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.metrics import IoU
    >>> iou = IoU()
    >>> iou.update(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1]))
    >>> iou.value(), iou.per_class()
    (0.5, array([0.5, 0.5]))
    """

    name = "iou"

    def _ratio(self, both: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        return _divided(both, sizes - both)


class Dice(_Overlap):
    """Dice coefficient, mean over classes: ``2 both / (targets + predicted)``.

    Unlike the loss of this name it counts predicted classes, not probabilities.

    Parameters
    ----------
    classes : sequence of int, optional
        Classes of the mean, for example ``[1]`` to leave out the background; by default all.
    ignore_index : int
        Target value that does not count.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.metrics import Dice
    >>> dice = Dice(classes=[1])
    >>> dice.update(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1]))
    >>> round(dice.value(), 4)
    0.6667
    """

    name = "dice"

    def _ratio(self, both: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        return _divided(2 * both, sizes)


class F1(Dice):
    """Harmonic mean of precision and recall, mean over classes (macro average).

    That of a class is ``2 both / (targets + predicted)``, and thus equal to `Dice`. The parameters
    are those of `Dice`.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.metrics import F1
    >>> f1 = F1()
    >>> f1.update(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1]))
    >>> f1.per_class().round(4)
    array([0.6667, 0.6667])
    """

    name = "f1"


def _divided(top: NDArray[np.int64], bottom: NDArray[np.int64]) -> NDArray[np.float64]:
    """The ratio, NaN where both are 0."""
    result = np.full(len(top), np.nan)
    np.divide(top, bottom, out=result, where=bottom > 0)
    return result
