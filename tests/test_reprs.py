"""What an interpreter shows of the library's objects."""

import numpy as np

import tinyml
from tinyml.core import Parameter
from tinyml.core.parameter import Buffer
from tinyml.layers import ReLU
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.net import Sequential
from tinyml.optims import SGD, Adam


def test_reprs(backend):
    adam = Adam(np.float32(0.5), epsilon=1e-6)
    assert (
        repr(adam) == "Adam(learning_rate=0.5, betas=(0.9, 0.999), epsilon=1e-06, weight_decay=0.0)"
    )
    sgd = "SGD(learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)"
    assert repr(SGD(0.1)) == sgd
    loss = SoftmaxCrossEntropy()
    assert repr(loss) == "SoftmaxCrossEntropy(ignore_index=-100)"
    learner = Learner(Sequential([ReLU("r")], name="net"), loss, SGD(0.1))
    assert repr(learner) == (
        f"Learner(Sequential('net'), SoftmaxCrossEntropy(ignore_index=-100), {sgd})"
    )
    array = backend.asarray(np.zeros((2, 3), np.float32))
    place = backend.device(array)
    assert repr(Parameter(array)) == f"Parameter((2, 3), float32, {place!r})"
    assert repr(Buffer(array)) == f"Buffer((2, 3), float32, {place!r})"
    assert repr(backend) == f"{type(backend).__name__}({backend.name!r})"
    assert repr(tinyml.current_backend()) == repr(backend)
