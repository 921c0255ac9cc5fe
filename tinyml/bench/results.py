"""Results of a run: statistics, the JSON file, and the comparison with another run."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

#: Name of the file format; it changes when the format does.
FORMAT = "tinyml-bench-1"
#: Kinds of contenders: a backend of tinyml, a peer, or copying memory.
BACKEND, PEER, COPY = "backend", "peer", "copy"


@dataclass
class Timing:
    """Times of one contender in one case."""

    name: str
    kind: str
    """`BACKEND`, `PEER` or `COPY`."""
    library: str
    """For example "numba", "torch" or "copy"; if it has several forms, the fastest counts."""
    place: str
    """Either "cpu" or "gpu"; ratios compare only contenders of the same place."""
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median of the samples in seconds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of the samples in seconds."""
        if len(self.seconds) < 2:
            return self.seconds[0], self.seconds[0]
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return first, third


@dataclass
class Measured:
    """One case of the run."""

    case: str
    group: str
    size_in_bytes: int | None
    timings: list[Timing] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Wrong results, and contenders that failed."""
    left_out: list[str] = field(default_factory=list)
    """Peers without the operation, and why."""
    others: float | None = None
    """Share of all CPUs that other programs used during the timing; None if unknown."""

    def speed(self, timing: Timing) -> float | None:
        """Speed in GB/s, of the bytes in `size_in_bytes`."""
        return None if self.size_in_bytes is None else self.size_in_bytes / timing.median / 1e9

    def fastest(self, library: str, place: str) -> Timing | None:
        """The fastest form of a library, for example the faster of PyTorch's memory formats."""
        forms = [t for t in self.timings if (t.library, t.place) == (library, place)]
        return min(forms, key=lambda t: t.median, default=None)

    def share(self, timing: Timing) -> float | None:
        """Speed as a share of the speed of the fastest copy of as many bytes at that place."""
        copy = self.fastest("copy", timing.place)
        return None if copy is None else copy.median / timing.median

    def ratios(self, timing: Timing) -> dict[str, float]:
        """Time of each peer in its fastest form at the same place, divided by ``timing``."""
        peers = dict.fromkeys(t.library for t in self.timings if t.kind == PEER)
        best = {peer: self.fastest(peer, timing.place) for peer in peers}
        return {peer: t.median / timing.median for peer, t in best.items() if t is not None}

    def ratios_to_forms(self, timing: Timing) -> dict[str, float]:
        """Time of each form of each peer at the same place, divided by ``timing``."""
        peers = [t for t in self.timings if (t.kind, t.place) == (PEER, timing.place)]
        return {t.name: t.median / timing.median for t in peers}


@dataclass
class Report:
    """A whole run."""

    environment: dict[str, Any]
    measured: list[Measured] = field(default_factory=list)
    complete: bool = True
    """False after an interrupt."""

    @property
    def errors(self) -> list[str]:
        """Errors of all cases."""
        return [error for measured in self.measured for error in measured.errors]

    def write(self, path: Path) -> None:
        """Write everything, all samples included, as JSON."""
        content = asdict(self)
        for case, measured in zip(content["measured"], self.measured, strict=True):
            for shown, timing in zip(case["timings"], measured.timings, strict=True):
                shown |= {
                    "median": timing.median,
                    "minimum": min(timing.seconds),
                    "gigabytes_per_second": measured.speed(timing),
                    "share_of_copy": measured.share(timing),
                }
                if timing.kind == BACKEND:
                    shown["ratios"] = measured.ratios(timing)
                    shown["ratios_to_forms"] = measured.ratios_to_forms(timing)
        path.write_text(json.dumps({"format": FORMAT, **content}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Report":
        """Read a file that `write` has written.

        Raises
        ------
        ValueError
            If it cannot be read, or is not such a file.
        """
        try:
            content = json.loads(path.read_text())
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"{path} is no JSON file: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"{path} was not written by `tinyml bench --json` of this version")
        try:
            return cls(
                dict(content["environment"]),
                [_measured(case) for case in content["measured"]],
                content["complete"],
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _measured(case: dict[str, Any]) -> Measured:
    timings = [Timing(*(t[field.name] for field in fields(Timing))) for t in case["timings"]]
    if not all(min(timing.seconds, default=0) > 0 for timing in timings):
        raise ValueError("samples must be positive numbers")
    return Measured(**{**case, "timings": timings})


@dataclass
class Change:
    """Times of a backend's call of the same case in two runs."""

    case: str
    old: Timing
    new: Timing
    copy: float | None
    """New time of copying memory divided by the old one: how the machine itself changed."""

    @property
    def slower(self) -> bool:
        """Whether the median grew, and the interquartile ranges of the runs do not overlap."""
        return self.new.median > self.old.median and self.new.quartiles[0] > self.old.quartiles[1]


def changes(old: Report, new: Report) -> Iterator[Change]:
    """Every call of a backend that both runs have, case by case."""
    before = {measured.case: measured for measured in old.measured}
    for measured in new.measured:
        earlier = before.get(measured.case)
        if earlier is None:
            continue
        timings = {t.name: t for t in earlier.timings}
        for timing in measured.timings:
            if timing.kind == BACKEND and timing.name in timings:
                was, now = (m.fastest("copy", timing.place) for m in (earlier, measured))
                copied = now.median / was.median if was and now else None
                yield Change(measured.case, timings[timing.name], timing, copied)
