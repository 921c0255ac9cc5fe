"""PyTorch's side of SegNet comparisons: the same network, from the same weights."""

from functools import cache
from typing import Any

from tinyml.arrays import to_numpy
from tinyml.net import Sequential


@cache
def torch_segnet() -> Any:
    """Class of `tinyml.models.segnet` in PyTorch, which is imported when it is first asked for."""
    import torch
    from torch import nn

    class TorchSegNet(nn.Module):  # type: ignore[misc]
        """`tinyml.models.segnet` in PyTorch, layer by layer."""

        def __init__(
            self,
            in_channels: int,
            n_classes: int,
            *,
            depth: int = 3,
            channels: int = 64,
            size: int = 3,
        ) -> None:
            super().__init__()

            def block(inputs: int) -> Any:
                conv = nn.Conv2d(inputs, channels, size, padding=size // 2, bias=False)
                return nn.Sequential(conv, nn.BatchNorm2d(channels))

            self.encoders = nn.ModuleList(
                block(in_channels if level == 0 else channels) for level in range(depth)
            )
            self.decoders = nn.ModuleList(block(channels) for _ in range(depth))
            self.classes = nn.Conv2d(channels, n_classes, 1)

        def forward(self, x: Any) -> Any:
            """Logits of every pixel."""
            memory = []
            for encoder in self.encoders:
                x = nn.functional.relu(encoder(x))
                shape = x.shape
                x, indices = nn.functional.max_pool2d(x, 2, return_indices=True)
                memory.append((indices, shape))
            for decoder in self.decoders:
                indices, shape = memory.pop()
                x = decoder(nn.functional.max_unpool2d(x, indices, 2, output_size=shape))
            return self.classes(x)

        def load(self, model: Sequential) -> "TorchSegNet":
            """Take the weights of a tinyml model, in the order of its layers."""
            ours = [torch.from_numpy(to_numpy(p.tensor)) for p in model.parameters]
            with torch.no_grad():
                for parameter, values in zip(self.parameters(), ours, strict=True):
                    parameter.copy_(values)
            return self

    return TorchSegNet
