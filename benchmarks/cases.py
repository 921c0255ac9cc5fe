"""The one table of benchmark cases, which `tinyml bench` runs too: that of the package."""

from tinyml.bench.cases import (
    CASES,
    OPERATIONS,
    POOLINGS,
    Case,
    Convolution,
    Pooling,
    SegNet,
    chosen,
    difference,
    reference,
)

__all__ = [
    "CASES",
    "OPERATIONS",
    "POOLINGS",
    "Case",
    "Convolution",
    "Pooling",
    "SegNet",
    "chosen",
    "difference",
    "reference",
]
