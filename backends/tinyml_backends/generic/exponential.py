"""Numbers of an exponential made of plain arithmetic, for backends that compute their own."""

from math import factorial

import numpy as np

#: 1 / log(2), and log(2) as a sum, whose first term has so few bits that its product with an
#: exponent is exact.
INVERSE_LOG2 = 1.4426950408889634
LOG2_HIGH = 0.693145751953125
LOG2_LOW = 1.4286068203094172e-06
#: Exponentials of numbers beyond ``±LARGEST`` are 0 or infinite.
LARGEST = {np.dtype(np.float32): 170.0, np.dtype(np.float64): 1360.0}
#: ``(exp(r) − 1 − r) / r²`` for ``|r| ≤ log(2) / 2``: 1 / k!, of the Taylor series, whose rest is
#: less than half an ulp of the exponential. The coefficient of the highest power is the first.
TERMS = {
    np.dtype(dtype): tuple(1 / factorial(k) for k in range(last, 1, -1))
    for dtype, last in ((np.float32, 7), (np.float64, 13))
}
