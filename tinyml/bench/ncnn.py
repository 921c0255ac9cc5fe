"""ncnn's calls of the convolutions, on models written in its text format."""

from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.bench.cases import Prepared
from tinyml.bench.convolution_peer import ConvolutionPeer
from tinyml.layers import Conv2D
from tinyml_backends.threads import thread_count

#: First line of a file of layers; the mark of float32 at the beginning of a layer's weights.
MAGIC, FLOAT32 = "7767517", b"\0\0\0\0"


class Ncnn(ConvolutionPeer):
    """The peer "ncnn": convolutions on the CPU, sample by sample, with tinyml's thread count."""

    name = "ncnn"
    lacks = "it has no unpooling, no gradients"

    def __init__(self) -> None:
        import ncnn

        self.ncnn = ncnn

    def describe(self) -> dict[str, Any]:
        """Version and threads, for the environment line."""
        return {"version": version("ncnn"), "threads": thread_count()}

    def convolution(self, layer: Conv2D, x: NDArray[np.float32]) -> Prepared:
        """Call of a layer on every sample of the input.

        Raises
        ------
        RuntimeError
            If ncnn does not load the model.
        """
        network = self.ncnn.Net()
        network.opt.num_threads = thread_count()
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic"):
            setattr(network.opt, f"use_{option}", False)  # all others compute in float32
        with TemporaryDirectory() as folder:
            layers, weights = Path(folder, "param"), Path(folder, "bin")
            layers.write_text(_description(layer))
            tensors = [np.asarray(p.tensor).tobytes() for p in layer.parameters]
            weights.write_bytes(FLOAT32 + b"".join(tensors))
            if network.load_param(str(layers)) or network.load_model(str(weights)):
                raise RuntimeError("ncnn does not load the model")
        samples = [self.ncnn.Mat(sample) for sample in x]

        def call() -> list[Any]:
            found = []
            for sample in samples:
                extractor = network.create_extractor()
                extractor.input("x", sample)
                found.append(extractor.extract("y")[1])
            return found

        return Prepared(call, lambda found: (np.stack([np.array(y) for y in found]),))


def _description(layer: Conv2D) -> str:
    """The model's text: an input and the convolution, whose options are numbered."""
    weight, window = layer.weight.tensor, layer.window
    (top, bottom), (left, right) = window.padding
    options = {
        0: len(weight),
        1: window.size[1],
        11: window.size[0],
        2: window.dilation[1],
        12: window.dilation[0],
        3: window.stride[1],
        13: window.stride[0],
        4: left,
        14: top,
        15: right,
        16: bottom,
        5: int(layer.bias is not None),
        6: weight.size,
    }
    kind = "Convolution"
    if layer.groups > 1:
        kind, options[7] = "ConvolutionDepthWise", layer.groups
    numbered = " ".join(f"{key}={value}" for key, value in options.items())
    return f"{MAGIC}\n2 2\nInput x 0 1 x\n{kind} conv 1 1 x y {numbered}\n"
