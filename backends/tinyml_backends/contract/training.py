"""What else a network computes: activations, joins, batch normalisation, steps, and its memory."""

from tinyml_backends.arrays import Arrays
from tinyml_backends.generic import activation, join, norm, steps
from tinyml_backends.memory import Workspace


class Training(Arrays):
    """Activations, joins, batch normalisation, steps of optimizers, and memory for training."""

    activate = activation.activate
    activate_gradient = activation.activate_gradient

    add = join.add
    concatenate = join.concatenate

    sum_channels = norm.sum_channels
    scale_channels = norm.scale_channels
    moments = norm.moments
    normalize = norm.normalize
    normalize_sums = norm.normalize_sums
    normalize_gradient = norm.normalize_gradient

    sgd_step = steps.sgd_step
    adam_step = steps.adam_step

    def workspace(self) -> Workspace:
        """Return memory that the training of one network reuses inside its ``in_use()``.

        Only NumPy's arrays use it; other libraries keep freed memory themselves.
        """
        return Workspace()
