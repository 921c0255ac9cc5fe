"""The library's own exceptions. Other bad arguments raise ``ValueError`` or ``TypeError``."""

import sys
import warnings
from types import FrameType

OURS = ("tinyml", "tinyml_backends")


class TinymlError(Exception):
    """Base class of tinyml's own exceptions."""


class SwitchIndexError(TinymlError, IndexError):
    """A max-pooling index that points outside its window, its plane or into padding."""


class MixedBackendError(TinymlError, TypeError):
    """Arrays of different libraries or devices in one operation; nothing is copied silently."""


class BackendUnavailableError(TinymlError, RuntimeError):
    """A known backend that cannot run here; the message says why and what to do."""


class CheckpointError(TinymlError, ValueError):
    """A checkpoint that cannot be written or read; the message lists everything that is wrong."""


class DownloadError(TinymlError, OSError):
    """A file that could not be downloaded, or is not the right one."""


def warn_caller(message: str) -> None:
    """Warn at the line outside of tinyml that led here."""
    warnings.warn(message, UserWarning, stacklevel=len(_our_frames()) + 1)


def argument_of_caller(value: object) -> str:
    """Name that the outermost function of tinyml gives to this argument, for a message; or ""."""
    for frame in reversed(_our_frames()):
        code = frame.f_code
        for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
            if frame.f_locals.get(name) is value:
                return name
    return ""


def _our_frames() -> list[FrameType]:
    """Frames of this call that belong to tinyml, the innermost first."""
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        frames.append(frame)
        frame = frame.f_back
    return frames
