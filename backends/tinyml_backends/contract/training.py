"""The contract for activations, interpolation, joins, normalisation, losses, steps and memory."""

from tinyml_backends.arrays import Arrays
from tinyml_backends.generic import activation, class_loss, join, norm, resample, steps
from tinyml_backends.memory import Workspace


class Training(Arrays):
    """Activations, interpolation, joins, normalisation, a loss, optimizers, memory for training."""

    activate = activation.activate
    activate_gradient = activation.activate_gradient

    resample = resample.resample

    add = join.add
    concatenate = join.concatenate

    sum_channels = norm.sum_channels
    scale_channels = norm.scale_channels
    moments = norm.moments
    normalize = norm.normalize
    normalize_sums = norm.normalize_sums
    normalize_gradient = norm.normalize_gradient

    class_losses = class_loss.class_losses
    class_losses_gradient = class_loss.class_losses_gradient

    sgd_step = steps.sgd_step
    adam_step = steps.adam_step

    def workspace(self) -> Workspace:
        """Return a new workspace: memory that one network reuses in training.

        It is used inside ``with workspace.in_use():``, by kernels on NumPy arrays only.
        """
        return Workspace()
