"""The library's own exceptions. Other bad arguments raise ``ValueError`` or ``TypeError``."""


class TinymlError(Exception):
    """Base class of tinyml's own exceptions."""


class SwitchIndexError(TinymlError, IndexError):
    """A max-pooling index that points outside its window, its plane or into padding."""


class MixedBackendError(TinymlError, TypeError):
    """Arrays of different libraries or devices in one operation; nothing is copied silently."""


class BackendUnavailableError(TinymlError, RuntimeError):
    """A known backend that cannot run here; the message says why and what to do."""
