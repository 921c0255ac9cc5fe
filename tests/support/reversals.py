"""References for deconvnet: plain loops over cells, and hooks of PyTorch."""

import numpy as np

from tinyml import to_numpy
from tinyml.layers import Conv2D, Flatten, LeakyReLU, Linear, MaxPool2D, ReLU


def loops(model, x, rule):
    """Signal at the input for the strongest output of a line of layers, cell by cell."""
    kept = []
    for layer in model.layers:
        kept.append(x)
        x = FORWARD[type(layer)](layer, x)
    signal = np.zeros_like(x)
    at = np.unravel_index(x.argmax(), x.shape)
    signal[at] = 1 if rule == "gradient" else x[at]
    for layer, before in zip(reversed(model.layers), reversed(kept), strict=True):
        signal = BACK[type(layer)](layer, before, signal, rule)
    return signal


def cells(layer, x):
    """Of a convolution or pooling: output cells, and the input cells of each window."""
    (kh, kw), (sh, sw), (dh, dw) = layer.window.size, layer.window.stride, layer.window.dilation
    (top, _), (left, _) = layer.window.padding
    _, height, width = layer.out_dim
    for i, j in np.ndindex(height, width):
        for a, b in np.ndindex(kh, kw):
            row, column = i * sh - top + a * dh, j * sw - left + b * dw
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                yield (i, j), (a, b), (row, column)


def conv(layer, x):
    weight, y = to_numpy(layer.weight.tensor), np.zeros(layer.out_dim)
    for place, tap, cell in cells(layer, x):
        y[:, *place] += weight[:, :, *tap] @ x[:, *cell]
    return y + to_numpy(layer.bias.tensor)[:, None, None]


def conv_back(layer, x, signal, rule):
    weight, result = to_numpy(layer.weight.tensor), np.zeros_like(x)
    for place, tap, cell in cells(layer, x):
        result[:, *cell] += signal[:, *place] @ weight[:, :, *tap]
    return result


def winners(layer, x):
    best = {}
    for place, _, cell in cells(layer, x):
        for c in range(len(x)):
            if (c, place) not in best or x[c, *cell] > x[c, *best[c, place]]:
                best[c, place] = cell
    return best


def pool(layer, x):
    y = np.zeros(layer.out_dim)
    for (c, place), cell in winners(layer, x).items():
        y[c, *place] = x[c, *cell]
    return y


def pool_back(layer, x, signal, rule):
    result = np.zeros_like(x)
    for (c, place), cell in winners(layer, x).items():
        result[c, *cell] += signal[c, *place]
    return result


def relu_back(slope, x, signal, rule):
    result = np.zeros_like(signal)
    for at in np.ndindex(x.shape):
        value = signal[at] if rule == "gradient" else max(signal[at], 0)
        derivative = 1 if rule == "deconvnet" or x[at] > 0 else slope
        result[at] = value * derivative
    return result


FORWARD = {
    Conv2D: conv,
    MaxPool2D: pool,
    ReLU: lambda layer, x: np.maximum(x, 0),
    LeakyReLU: lambda layer, x: np.where(x > 0, x, layer.slope * x),
    Flatten: lambda layer, x: x.reshape(-1),
    Linear: lambda layer, x: to_numpy(layer.weight.tensor) @ x,
}
BACK = {
    Conv2D: conv_back,
    MaxPool2D: pool_back,
    ReLU: lambda layer, x, signal, rule: relu_back(0, x, signal, rule),
    LeakyReLU: lambda layer, x, signal, rule: relu_back(layer.slope, x, signal, rule),
    Flatten: lambda layer, x, signal, rule: signal.reshape(x.shape),
    Linear: lambda layer, x, signal, rule: signal @ to_numpy(layer.weight.tensor),
}


class Hooked:
    """A pass of PyTorch over the layers of a model, with hooks on its rectifiers."""

    def __init__(self, torch, model, rule):
        self.torch, self.model = torch, model
        self.F, self.hook = torch.nn.functional, HOOKS[rule]

    def relu(self, x):
        module = self.torch.nn.ReLU()
        module.register_full_backward_hook(self.hook)
        return module(x)

    def conv(self, layer, x):
        bias = None if layer.bias is None else self.t(layer.bias)
        pads = layer.window.padding_before
        return self.F.conv2d(x, self.t(layer.weight), bias, layer.window.stride, pads)

    def norm(self, layer, x):
        given = layer.running_mean, layer.running_variance, layer.scale, layer.shift
        return self.F.batch_norm(x, *map(self.t, given))

    def t(self, buffer):
        return self.torch.from_numpy(to_numpy(buffer.tensor))

    def vgg(self, x):
        for layer in self.model.layers:
            if isinstance(layer, Conv2D):
                x = self.conv(layer, x)
            elif isinstance(layer, ReLU):
                x = self.relu(x)
            elif isinstance(layer, MaxPool2D):
                x = self.F.max_pool2d(x, 2)
            elif isinstance(layer, Linear):
                x = self.F.linear(x, self.t(layer.weight), self.t(layer.bias))
            elif isinstance(layer, Flatten):
                x = x.flatten(1)
            elif layer.name == "average":
                x = self.F.adaptive_avg_pool2d(x, 7)
        return x

    def resnet18(self, x):
        layers = {layer.name: layer for layer in self.model.layers}
        x = self.relu(self.norm(layers["norm"], self.conv(layers["conv"], x)))
        x = self.F.max_pool2d(x, 3, 2, 1)
        for level in range(1, 5):
            for number in (1, 2):
                block = {b.name: b for b in layers[f"block{level}_{number}"].layers}
                y = self.relu(self.norm(block["norm1"], self.conv(block["conv1"], x)))
                y = self.norm(block["norm2"], self.conv(block["conv2"], y))
                if "conv_shortcut" in block:
                    x = self.norm(block["norm_shortcut"], self.conv(block["conv_shortcut"], x))
                x = self.relu(x + y)
        x = x.mean((2, 3))
        return self.F.linear(x, self.t(layers["classes"].weight), self.t(layers["classes"].bias))


HOOKS = {
    "gradient": lambda module, before, after: before,
    "deconvnet": lambda module, before, after: (after[0].clamp(min=0),),
    "guided": lambda module, before, after: (before[0].clamp(min=0),),
    "desalinet": lambda module, before, after: (before[0].clamp(min=0),),
}
