"""The normal distribution, which GELU needs: NumPy has no error function."""

from types import ModuleType

import numpy as np

from tinyml_backends.arrays import Array

#: ``√½`` and ``1 / √(2π)``.
ROOT_HALF, DENSITY = 0.7071067811865476, 0.3989422804014327
#: From here on `tail` is 0 in float64.
FAR = 40.0
#: Centre of the transformed variable of `TERMS`.
CENTRE = 3.75


# fmt: off
_SINGLE = (
    1.2375126192677,
    -0.1402406583213864,
    0.003586270394024618,
    0.08227841998347046,
    -0.10881427014905069,
    0.09229076959130378,
    -0.05864685873554614,
    0.02840925236412726,
    -0.009844494859674952,
    0.001675912217981131,
    0.0003963076129893627,
    -0.00022411674674416022,
)
_DOUBLE = (
    1.2375126308378275,
    -0.14024059858554525,
    0.0035854154854790257,
    0.08227673848999506,
    -0.10880393014244462,
    0.09230432116428125,
    -0.05869339857664934,
    0.02836227737211114,
    -0.009746579683265262,
    0.0017556261651970652,
    0.000293714378044958,
    -0.00029015535246077655,
    5.164652974177416e-05,
    2.2387565714911816e-05,
    -1.1438048033346894e-05,
    -9.792625707303523e-07,
    1.7419821586224816e-06,
    -5.084465378687302e-08,
    -2.4857126248016745e-07,
    1.879082322370048e-08,
    3.197926671666804e-08,
    -1.9551358868985616e-09,
    -2.623107347133476e-09,
)
# fmt: on

#: Coefficients of a polynomial in ``t = (z − CENTRE) / (z + CENTRE)``, the constant first, which is
#: ``(1 + 2z) · exp(z²) · erfc(z)`` for ``z ≥ 0`` to the precision of the dtype. The form is that of
#: Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x²) erfc x in 0 ≤ x < ∞",
#: Mathematics of Computation 36 (1981); the Chebyshev series was computed with 60 digits.
TERMS = {np.dtype(np.float32): _SINGLE, np.dtype(np.float64): _DOUBLE}


def cdf(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """``Φ(x)``, within 3e-16 in float64, and ``exp(−x² / 2)``."""
    z = xp.minimum(xp.abs(x) * ROOT_HALF, FAR)
    exponential = xp.exp(-z * z)
    t = (z - CENTRE) / (z + CENTRE)
    *terms, last = TERMS[x.dtype]
    tail = t * last
    for term in reversed(terms[1:]):
        tail += term
        tail *= t
    tail += terms[0]
    tail *= exponential
    tail /= 4 * z + 2  # erfc(z) / 2
    return xp.where(x > 0, 1 - tail, tail), exponential
