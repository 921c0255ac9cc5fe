"""The other libraries that run cases, each imported when it is first needed."""

import difflib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from tinyml.bench.cases import Case
from tinyml.bench.measure import Contender


class Peer(Protocol):
    """Another library."""

    name: str

    def describe(self) -> dict[str, Any]:
        """Versions and threads, for the environment line."""

    def contenders(self, case: Case, places: set[str]) -> Iterator[Contender]:
        """Its calls of the case at the places ("cpu", "gpu") where tinyml runs.

        Raises
        ------
        Unsupported
            If it has none.
        """


#: Module and class of each peer, and the modules that it needs.
PEERS = {
    "torch": ("tinyml.bench.pytorch", "PyTorch", ["torch"]),
    "onnxruntime": ("tinyml.bench.onnx_runtime", "OnnxRuntime", ["onnx", "onnxruntime"]),
    "opencv": ("tinyml.bench.opencv", "OpenCV", ["onnx", "cv2"]),
    "ncnn": ("tinyml.bench.ncnn", "Ncnn", ["ncnn"]),
}
#: Packages whose names on PyPI are not those of their modules.
PACKAGES = {"cv2": "opencv-python-headless"}


def load(name: str) -> Peer:
    """Import a peer.

    Raises
    ------
    ValueError
        If it is unknown, is not installed, or does not load.
    """
    if name not in PEERS:
        close = difflib.get_close_matches(name, PEERS, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown peer {name!r}; known are {', '.join(map(repr, PEERS))}{hint}")
    module, attribute, needed = PEERS[name]
    missing = [PACKAGES.get(each, each) for each in needed if find_spec(each) is None]
    if missing:
        raise ValueError(
            f"peer {name!r} needs {' and '.join(missing)}; "
            f"run: python3 -m pip install {' '.join(missing)}"
        )
    try:
        peer: Peer = getattr(import_module(module), attribute)()
    except (ImportError, OSError) as error:  # a broken installation; OSError from shared libraries
        raise ValueError(f"peer {name!r} does not load here: {error}") from error
    return peer
