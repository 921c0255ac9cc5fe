"""CUDA arrays through CuPy, with CUDA kernels for the pooling family, for activations and training.

float16, float32 and float64 run on the kernels in ``kernels/``, except that those of batch
normalisation and the optimizers have no float16. Other dtypes, and operations that have no kernel,
run the generic code on CuPy. Matrix products use cuBLAS. Work is queued on CuPy's current stream,
on the device of the arrays.
"""

from tinyml_backends.cupy_backend.activation import CupyActivation
from tinyml_backends.cupy_backend.pooling import CupyPooling
from tinyml_backends.cupy_backend.training import CupyTraining


class CupyBackend(CupyPooling, CupyTraining, CupyActivation):
    """CuPy on a CUDA GPU."""
