"""The share of the CPUs that other programs use while a case is timed."""

import os
from collections.abc import Callable
from pathlib import Path

#: A greater share makes times unreliable. Threads that wait for each other at a barrier lose whole
#: time slices when one of them gets no CPU, so libraries that use barriers are measured too slow.
MUCH = 0.05


def watch() -> Callable[[], float | None]:
    """Start measuring; the result returns the share of all CPUs that other programs used since.

    It returns None on systems other than Linux, and if all CPUs together have counted less than 0.2
    seconds, used or idle.
    """
    begin = _used()

    def share() -> float | None:
        end = _used()
        if begin is None or end is None or end[0] - begin[0] < 0.2:
            return None
        total, busy, own = (after - before for before, after in zip(begin, end, strict=True))
        return max(0.0, busy - own) / total

    return share


def _used() -> tuple[float, float, float] | None:
    """Seconds summed over the CPUs: in total, used by all programs, used by this process."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
    except (OSError, ValueError):
        return None
    own = os.times()
    return sum(ticks), sum(ticks) - ticks[3] - ticks[4], own.user + own.system
