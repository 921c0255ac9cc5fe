"""The share of the CPUs that other programs use while a case is timed."""

import os
from collections.abc import Callable
from pathlib import Path

#: A greater share makes times unreliable: a thread that waits for another one to get a CPU loses
#: whole time slices, and libraries whose threads meet at barriers look far too slow.
MUCH = 0.05


def watch() -> Callable[[], float | None]:
    """Start measuring; the result returns the share of all CPUs that other programs used since.

    It is None on other systems than Linux, and after less than 0.2 seconds of CPU time.
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
    """Seconds of all CPUs since the start: in total, used by all programs, used by this one."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
    except (OSError, ValueError):
        return None
    own = os.times()
    return sum(ticks), sum(ticks) - ticks[3] - ticks[4], own.user + own.system
