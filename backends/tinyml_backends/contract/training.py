"""What else a network computes, with the generic kernels as defaults.

Callers have checked shapes and dtypes.
"""

from collections.abc import Sequence
from typing import Any

from tinyml_backends.arrays import Array
from tinyml_backends.contract.arrays import Arrays
from tinyml_backends.generic import activation, join, norm, steps
from tinyml_backends.memory import NoWorkspace, Workspace


class Training(Arrays):
    """Activations, joins, batch normalisation, steps of optimizers, and memory for training."""

    def workspace(self) -> Workspace | NoWorkspace:
        """Return memory that the training of one network reuses: ``in_use()`` and ``clear()``.

        By default one that does nothing, for libraries that keep freed memory themselves.
        """
        return NoWorkspace()

    def activate(self, kind: str, x: Array, **options: Any) -> tuple[Array, Array]:
        """Activation of each element, and what `activate_gradient` needs from this call.

        Raises
        ------
        ValueError
            If the kind is unknown, or has no such option.
        """
        return activation.formula(kind, options).forward(self.xp, x, **options)

    def activate_gradient(self, kind: str, gradient: Array, saved: Array, **options: Any) -> Array:
        """Gradient of `activate` with respect to ``x``, given what it saved."""
        return activation.formula(kind, options).gradient(self.xp, gradient, saved, **options)

    def add(self, arrays: Sequence[Array]) -> Array:
        """Sum of arrays of one shape, from left to right."""
        return join.add(self.xp, arrays)

    def concatenate(self, arrays: Sequence[Array]) -> Array:
        """Arrays (N, C, …) as one, one array's channels after the other's."""
        return join.concatenate(self.xp, arrays)

    def sum_channels(self, x: Array) -> Array:
        """Sum of each channel of ``x`` (N, C, …)."""
        return norm.sum_channels(x)

    def scale_channels(self, x: Array, scale: Array) -> Array:
        """``x · scale`` with one number for each channel of ``x`` (N, C, …)."""
        return norm.scale_channels(self.xp, x, scale)

    def moments(self, x: Array) -> tuple[Array, Array]:
        """Mean and biased variance of each channel of ``x`` (N, C, …)."""
        return norm.moments(self.xp, x)

    def normalize(
        self, x: Array, mean: Array, inverse_deviation: Array, scale: Array, shift: Array
    ) -> tuple[Array, Array]:
        """``normalized · scale + shift`` and ``normalized = (x − mean) · inverse_deviation``.

        All but ``x`` have one number for each channel.
        """
        return norm.normalize(self.xp, x, mean, inverse_deviation, scale, shift)

    def normalize_sums(self, gradient: Array, normalized: Array) -> tuple[Array, Array]:
        """Sums of ``gradient`` and of ``gradient · normalized``, of each channel."""
        return norm.normalize_sums(self.xp, gradient, normalized)

    def normalize_gradient(
        self, gradient: Array, normalized: Array, mean: Array, share: Array, slope: Array
    ) -> Array:
        """``(gradient − normalized · share − mean) · slope``, with one number for each channel."""
        return norm.normalize_gradient(self.xp, gradient, normalized, mean, share, slope)

    def sgd_step(
        self,
        tensor: Array,
        gradient: Array,
        velocity: Array | None,
        learning_rate: float,
        momentum: float,
    ) -> None:
        """Change ``velocity``, if there is one, and ``tensor`` in place."""
        steps.sgd(tensor, gradient, velocity, learning_rate, momentum)

    def adam_step(
        self,
        tensor: Array,
        gradient: Array,
        first: Array,
        second: Array,
        decays: tuple[float, float],
        rate: float,
        correction: float,
        epsilon: float,
    ) -> None:
        """Change both moments and ``tensor`` in place, by ``rate · first / deviation``."""
        steps.adam(self.xp, tensor, gradient, first, second, decays, rate, correction, epsilon)
