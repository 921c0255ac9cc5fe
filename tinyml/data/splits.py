"""Which samples train, and which are held out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml_backends.arguments import generator, integer, number

Numbers = NDArray[np.int64]


def holdout(
    count: int,
    share: float = 0.2,
    *,
    labels: NDArray[Any] | None = None,
    seed: int = 0,
) -> tuple[Numbers, Numbers]:
    """Random split of samples; the same for the same seed.

    Parameters
    ----------
    count : int
        Number of samples; at least 2.
    share : float
        Share of them that is held out, between 0 and 1; at least one sample is, and one is not.
    labels : array of int, (count,), optional
        Class of each sample. Then of each class that share is held out.
    seed : int

    Returns
    -------
    kept, held : array of int
        Numbers of the samples, in random order.

    Raises
    ------
    ValueError
        If there are too few samples, in all or of a class.

    Examples
    --------
    >>> from tinyml.data import holdout
    >>> kept, held = holdout(10, 0.3)
    >>> len(kept), len(held), sorted([*kept, *held]) == list(range(10))
    (7, 3, True)
    """
    integer("count", count, 1)
    share = number("share", share, more_than=0, less_than=1)
    rng = generator(integer("seed", seed, 0))
    groups = [np.arange(count)]
    if labels is not None:
        if np.shape(labels) != (count,):
            raise ValueError(f"labels has shape {np.shape(labels)}; it must be ({count},)")
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    kept: list[Numbers] = []
    held: list[Numbers] = []
    for group in groups:
        if len(group) < 2:
            of = "" if labels is None else f" of class {np.asarray(labels)[group[0]]}"
            raise ValueError(
                f"there is {len(group)} sample{of}; there must be 2 or more, one of them to hold "
                "out"
            )
        order = rng.permutation(group)
        cut = min(max(1, int(len(group) * share)), len(group) - 1)
        held.append(order[:cut])
        kept.append(order[cut:])
    if len(groups) == 1:
        return kept[0], held[0]
    return rng.permutation(np.concatenate(kept)), rng.permutation(np.concatenate(held))
