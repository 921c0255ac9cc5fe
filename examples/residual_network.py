"""A small ResNet, written as a graph: each block adds its input to its output."""

import numpy as np

from tinyml.data import load_digits
from tinyml.graph import Graph
from tinyml.layers import Add, BatchNorm2D, Conv2D, Flatten, GlobalAvgPool2D, Linear, ReLU
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.optims import Adam


def residual_network(channels: int = 16, blocks: int = 2) -> Graph:
    """Network for digits of 8×8 pixels."""
    net = Graph("net", (1, 8, 8))
    dim = (channels, 8, 8)
    node = net.add(Conv2D("first", (1, 8, 8), channels, 3, padding=1, rng=0))
    for number in range(blocks):
        conv = Conv2D(f"conv{number}", dim, channels, 3, padding=1, bias=False, rng=number)
        net.add(conv, node)
        inner = net.add(BatchNorm2D(f"norm{number}", dim))
        net.add(Add(f"add{number}"), node, inner)
        node = net.add(ReLU(f"relu{number}"))
    net.add(GlobalAvgPool2D("average", dim))
    net.add(Flatten("flatten"))
    net.add(Linear("classes", channels, 10, rng=0))
    return net


def main(epochs: int = 5) -> float:
    """Train and return the accuracy on digits held out."""
    images, labels = load_digits()
    x, y = images[:, None] / np.float32(16), labels.astype(np.int64)
    net = residual_network()
    print(net.summary())
    learner = Learner(net, SoftmaxCrossEntropy(), Adam(1e-2))
    learner.fit((x[:1400], y[:1400]), epochs=epochs)
    accuracy: float = learner.evaluate((x[1400:], y[1400:]))["accuracy"]
    print(f"accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
