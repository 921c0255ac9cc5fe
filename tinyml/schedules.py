"""Schedules: learning rates that depend on the number of steps taken.

A schedule is given to an optimizer as its ``learning_rate``; the optimizer counts its steps. Any
function of the number of steps before this one can be wrapped with `Schedule`.
"""

from collections.abc import Callable
from math import cos, pi

from tinyml.core.number import Number, described
from tinyml_backends.arguments import integer


class Schedule:
    """Learning rate as a function of the number of steps taken before.

    Parameters
    ----------
    function : callable
        From an int, 0 for the first step, to a rate above or equal to 0.

    Examples
    --------
    >>> from tinyml.optims import SGD
    >>> from tinyml.schedules import Schedule
    >>> SGD(Schedule(lambda step: 0.1 / (1 + step))).learning_rate(3)
    0.025
    """

    def __init__(self, function: Callable[[int], float]) -> None:
        self.function = function

    def __call__(self, step: int) -> float:
        """Learning rate of the step with this number, from 0."""
        return self.function(step)

    def __repr__(self) -> str:
        return described(self)


class StepDecay(Schedule):
    """``rate · factor`` after ``every`` steps, ``rate · factor²`` after twice as many, and so on.

    Examples
    --------
    >>> from tinyml.schedules import StepDecay
    >>> decay = StepDecay(0.5, every=10, factor=0.5)
    >>> decay(9), decay(10), decay(20)
    (0.5, 0.25, 0.125)
    """

    rate = Number(more_than=0)
    factor = Number(more_than=0, at_most=1)

    def __init__(self, rate: float, every: int, factor: float = 0.1) -> None:
        self.rate = rate
        self.factor = factor
        self.every = integer("every", every, 1)

    def __call__(self, step: int) -> float:
        """Learning rate of the step with this number, from 0."""
        return float(self.rate * self.factor ** (step // self.every))


class Cosine(Schedule):
    """From ``rate`` to ``lowest`` along half a cosine, in ``steps`` steps; then ``lowest``.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
    without restarts.

    Examples
    --------
    >>> from tinyml.schedules import Cosine
    >>> cosine = Cosine(0.5, steps=10)
    >>> cosine(0), cosine(5), cosine(10), cosine(99)
    (0.5, 0.25, 0.0, 0.0)
    """

    rate = Number(more_than=0)
    lowest = Number(at_least=0)

    def __init__(self, rate: float, steps: int, lowest: float = 0.0) -> None:
        self.rate = rate
        self.lowest = lowest
        self.steps = integer("steps", steps, 1)

    def __call__(self, step: int) -> float:
        """Learning rate of the step with this number, from 0."""
        return _between(self.rate, self.lowest, min(1, step / self.steps))


class OneCycle(Schedule):
    """Up to ``highest`` and down to almost nothing, each along half a cosine.

    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
    Rates", 2018, with PyTorch's defaults.

    Parameters
    ----------
    highest : float
    steps : int
        Of the whole training; at least 2.
    rising : float
        Share of the steps that go up, between 0 and 1.
    start : float
        ``highest`` over the first rate.
    end : float
        The first rate over the last one.

    Examples
    --------
    >>> from tinyml.schedules import OneCycle
    >>> cycle = OneCycle(0.5, steps=10, rising=0.5)
    >>> round(cycle(0), 6), cycle(4), cycle(9) < 1e-5
    (0.02, 0.5, True)
    """

    highest = Number(more_than=0)
    rising = Number(more_than=0, less_than=1)
    start = Number(at_least=1)
    end = Number(at_least=1)

    def __init__(
        self,
        highest: float,
        steps: int,
        rising: float = 0.3,
        start: float = 25.0,
        end: float = 1e4,
    ) -> None:
        self.highest = highest
        self.steps = integer("steps", steps, 2)
        self.rising = rising
        self.start = start
        self.end = end

    def __call__(self, step: int) -> float:
        """Learning rate of the step with this number, from 0."""
        top, last = self.rising * self.steps - 1, self.steps - 1
        first = self.highest / self.start
        if step < top:
            return _between(first, self.highest, step / top)
        return _between(self.highest, first / self.end, min(1, (step - top) / (last - top)))


class WarmUp(Schedule):
    """A rate, or another schedule, times a factor that rises from ``start`` to 1 in a line.

    Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017.

    Examples
    --------
    >>> from tinyml.schedules import Cosine, WarmUp
    >>> warm = WarmUp(Cosine(0.5, steps=100), steps=4)
    >>> warm(0), warm(2) < 0.25, warm(50)
    (0.0, True, 0.25)
    """

    start = Number(at_least=0, at_most=1)

    def __init__(self, after: "float | Schedule", steps: int, start: float = 0.0) -> None:
        if not isinstance(after, Schedule):
            after = StepDecay(after, every=1, factor=1.0)
        self.after = after
        self.steps = integer("steps", steps, 1)
        self.start = start

    def __call__(self, step: int) -> float:
        """Learning rate of the step with this number, from 0."""
        share = min(1, step / self.steps)
        return float(self.start + (1 - self.start) * share) * self.after(step)


def _between(first: float, last: float, share: float) -> float:
    """Half a cosine from ``first``, where ``share`` is 0, to ``last``, where it is 1."""
    return last + (first - last) * (1 + cos(pi * share)) / 2
