"""One step of an optimizer, in place."""

from tinyml_backends.arrays import Array, Arrays


def sgd_step(
    backend: Arrays,
    tensor: Array,
    gradient: Array,
    velocity: Array | None,
    learning_rate: float,
    momentum: float,
) -> None:
    """Change ``velocity``, if there is one, and ``tensor`` in place.

    ``velocity = momentum · velocity + gradient``, ``tensor −= learning_rate · velocity``. If
    ``velocity`` is None, ``tensor −= learning_rate · gradient``.
    """
    step = gradient
    if velocity is not None:
        step = velocity
        step *= momentum
        step += gradient
    tensor -= learning_rate * step


def adam_step(
    backend: Arrays,
    tensor: Array,
    gradient: Array,
    first: Array,
    second: Array,
    decays: tuple[float, float],
    rate: float,
    correction: float,
    epsilon: float,
) -> None:
    """Update both moments with their ``decays``, and ``tensor``, in place.

    ``first = decays[0] · first + (1 − decays[0]) · gradient``, likewise ``second`` with
    ``decays[1]`` and ``gradient²``, and then
    ``tensor −= rate · first / (√(second / correction) + epsilon)``.
    """
    first *= decays[0]
    first += (1 - decays[0]) * gradient
    second *= decays[1]
    second += (1 - decays[1]) * gradient * gradient
    tensor -= rate * first / (backend.xp.sqrt(second / correction) + epsilon)
