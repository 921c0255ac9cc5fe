"""How busy other programs keep the machine while a case is timed."""

import os
from collections.abc import Callable
from pathlib import Path

#: More than this, and the times say little: a thread that waits for another one to be given a CPU
#: loses whole time slices, and libraries whose threads meet at barriers look far too slow.
MUCH = 0.05


def watch() -> Callable[[], float | None]:
    """Begin now; the result tells which share of all CPUs other programs have used since.

    It is None where the system does not say (other than Linux), or after too short a time.
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
    """Seconds of all CPUs so far: all that passed, those used by anybody, those used by us."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
    except (OSError, ValueError):
        return None
    own = os.times()
    return sum(ticks), sum(ticks) - ticks[3] - ticks[4], own.user + own.system
