"""What the other libraries have in common that are timed on the forward pass of convolutions."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinyml.bench.cases import Case, Convolution, Prepared, Unsupported, values
from tinyml.bench.measure import Contender, wall_clock
from tinyml.bench.results import PEER, Timing
from tinyml.layers import Conv2D
from tinyml_backends import use_backend


class ConvolutionPeer(ABC):
    """A library on the CPU, which gets every convolution as a network of one layer."""

    name: ClassVar[str]
    lacks: ClassVar[str]
    """Why it is timed on nothing else."""

    def contenders(self, case: Case, places: set[str]) -> Iterator[Contender]:
        """One network of one layer.

        Raises
        ------
        Unsupported
            If the case is not the forward pass of a convolution, or tinyml does not run on the CPU.
        """
        if "cpu" not in places:
            raise Unsupported("it is run on the CPU only")
        if not isinstance(case, Convolution) or case.operation != "conv":
            raise Unsupported(f"only its convolutions are timed: {self.lacks}")
        with use_backend("numpy"):
            prepared = self.convolution(case.layers()[0], values(case.shape))
        yield Contender(Timing(self.name, PEER, self.name, "cpu"), prepared, wall_clock)

    @abstractmethod
    def convolution(self, layer: Conv2D, x: NDArray[np.float32]) -> Prepared:
        """Call of a layer on the input."""
