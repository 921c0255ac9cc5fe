"""A backend of one's own: NumPy's, which counts the calls of its kernels."""

from collections import Counter
from typing import Any

import numpy as np

import tinyml
from tinyml.models import lenet
from tinyml_backends.numpy_backend import NumpyBackend

CALLS: Counter[str] = Counter()


class CountingBackend(NumpyBackend):
    """NumPy's kernels, of which convolution and max-pooling are counted."""

    name = "counting"

    def conv(self, *arguments: Any, **options: Any) -> Any:
        """Convolution, counted."""
        CALLS["conv"] += 1
        return super().conv(*arguments, **options)

    def max_pool(self, *arguments: Any, **options: Any) -> Any:
        """Max-pooling, counted."""
        CALLS["max_pool"] += 1
        return super().max_pool(*arguments, **options)


def main() -> dict[str, int]:
    """Run LeNet on it and return how often the kernels were called."""
    CALLS.clear()
    if "counting" not in [status.name for status in tinyml.backends()]:
        tinyml.register_backend("counting", CountingBackend)
    with tinyml.use_backend("counting"):
        lenet((1, 28, 28), 10)(np.zeros((2, 1, 28, 28), np.float32))
    print(dict(CALLS))
    return dict(CALLS)


if __name__ == "__main__":
    main()
