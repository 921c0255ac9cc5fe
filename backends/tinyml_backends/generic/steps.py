"""One step of an optimizer, in place."""

from types import ModuleType

from tinyml_backends.arrays import Array


def sgd(
    tensor: Array,
    gradient: Array,
    velocity: Array | None,
    learning_rate: float,
    momentum: float,
) -> None:
    """``velocity = momentum · velocity + gradient``, ``tensor −= learning_rate · velocity``."""
    step = gradient
    if velocity is not None:
        step = velocity
        step *= momentum
        step += gradient
    tensor -= learning_rate * step


def adam(
    xp: ModuleType,
    tensor: Array,
    gradient: Array,
    first: Array,
    second: Array,
    decays: tuple[float, float],
    rate: float,
    correction: float,
    epsilon: float,
) -> None:
    """Move the moments by ``decays`` and ``tensor`` by ``rate · first / deviation``.

    The deviation is ``√(second / correction) + epsilon``.
    """
    first *= decays[0]
    first += (1 - decays[0]) * gradient
    second *= decays[1]
    second += (1 - decays[1]) * gradient * gradient
    tensor -= rate * first / (xp.sqrt(second / correction) + epsilon)
