"""The library's own exceptions. Other bad arguments raise ``ValueError`` or ``TypeError``."""

import sys
import warnings


class TinymlError(Exception):
    """Base class of tinyml's own exceptions."""


class SwitchIndexError(TinymlError, IndexError):
    """A max-pooling index that points outside its window, its plane or into padding."""


class MixedBackendError(TinymlError, TypeError):
    """Arrays of different libraries or devices in one operation; nothing is copied silently."""


class BackendUnavailableError(TinymlError, RuntimeError):
    """A known backend that cannot run here; the message says why and what to do."""


def warn_caller(message: str) -> None:
    """Warn at the line outside of tinyml that led here."""
    frame, level = sys._getframe(), 1
    ours = "tinyml", "tinyml_backends"
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
