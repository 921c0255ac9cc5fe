"""Progress bars."""

from typing import Any

from tqdm import tqdm


class Progress(tqdm):  # type: ignore[misc, unused-ignore]
    """A bar of tqdm on a terminal, and nothing elsewhere.

    It has no thread that redraws it when a step takes long: late in the life of a process none can
    be started. Instead, every update looks at the clock.
    """

    monitor_interval = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, disable=None, miniters=1, **options)
