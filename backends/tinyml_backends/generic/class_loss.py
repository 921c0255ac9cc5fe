"""Softmax cross-entropy with classes as targets, on arrays (N, C, …) of samples and classes."""

from tinyml_backends.arrays import Array, Arrays


def class_losses(
    backend: Arrays, logits: Array, classes: Array, counted: Array
) -> tuple[Array, Array, Array]:
    """Losses ``−log softmax(logits)[classes]``, the exponentials, and their sums over all classes.

    Parameters
    ----------
    logits : float array, (N, C, …)
    classes : int64 array, (N, …)
        0 where the target is not counted.
    counted : bool array, (N, …)
        The losses of other targets are 0.

    Returns
    -------
    losses : array, (N, …)
    exponentials : array, (N, C, …)
        ``exp(logits − maximum over the classes)``.
    totals : array, (N, 1, …)
    """
    xp = backend.xp
    shifted = logits - logits.max(1, keepdims=True)
    chosen = xp.take_along_axis(shifted, xp.expand_dims(classes, 1), 1)[:, 0]
    exponentials = xp.exp(shifted, out=shifted)
    totals = exponentials.sum(1, keepdims=True)
    losses = xp.where(counted, xp.log(totals[:, 0]) - chosen, logits.dtype.type(0))
    return losses, exponentials, totals


def class_losses_gradient(
    backend: Arrays,
    exponentials: Array,
    totals: Array,
    classes: Array,
    counted: Array,
    divisor: int,
) -> Array:
    """Gradient of the sum of the losses over ``divisor``; it overwrites ``exponentials``.

    It is the softmax, minus 1 at the target's class, over ``divisor``; 0 where not counted.
    """
    xp, probability, index = backend.xp, exponentials, backend.xp.expand_dims(classes, 1)
    probability /= totals
    of_target = xp.take_along_axis(probability, index, 1) - 1
    xp.put_along_axis(probability, index, of_target, 1)
    probability *= xp.expand_dims(counted, 1)
    probability /= divisor
    return probability
