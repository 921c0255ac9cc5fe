"""Devices, streams and events. Work is done immediately; waiting is only counted."""

import time

from emulation.memory import DEVICES, CUDARuntimeError, current, synchronise


class Device:
    """As ``cupy.cuda.Device``."""

    def __init__(self, device: "int | Device | None" = None) -> None:
        self.id = current.device if device is None else int(device)
        self._before: list[int] = []

    def use(self) -> None:
        if not 0 <= self.id < DEVICES:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        current.device = self.id

    def __enter__(self) -> "Device":
        self._before.append(current.device)
        try:
            self.use()
        except BaseException:
            self._before.pop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        current.device = self._before.pop()

    def synchronize(self) -> None:
        synchronise()

    @property
    def compute_capability(self) -> str:
        return "90"

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


class Stream:
    """As ``cupy.cuda.Stream``."""

    null: "Stream"

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self._before: list[Stream | None] = []

    def use(self) -> "Stream":
        current.stream = self
        return self

    def __enter__(self) -> "Stream":
        self._before.append(current.stream)
        return self.use()

    def __exit__(self, *error: object) -> None:
        current.stream = self._before.pop()

    def synchronize(self) -> None:
        synchronise()

    def record(self, event: "Event | None" = None) -> "Event":
        event = event or Event()
        event.record(self)
        return event


Stream.null = Stream(null=True)


class Event:
    """As ``cupy.cuda.Event``."""

    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        self._time: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        synchronise()


def get_current_stream(device_id: int = -1) -> Stream:
    return current.stream or Stream.null


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two recorded events."""
    if start_event._time is None or end_event._time is None:
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: an event was not recorded")
    return 1000 * (end_event._time - start_event._time)
