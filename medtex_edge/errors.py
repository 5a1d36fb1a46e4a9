"""One exception tree; each class carries the exit code of the command that it ends.

A message names what was expected, what was found, and what to do next. The command line prints it as one line
(`hint` on a second) without a traceback: see `medtex_edge.cli.main`.
"""

from __future__ import annotations


class MedtexError(Exception):
    """Anything a user can cause or cure. `hint` is the next step, in the imperative."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.__notes__ = [hint]  # a traceback shows it below the message, from Python 3.11 on (PEP 678)


class SettingsError(MedtexError):
    """A flag, a key of `medtex.toml` or a value of a configuration that is not valid."""

    exit_code = 2


class BundleError(MedtexError):
    """A bundle that is not one, is damaged, lies about itself, or whose golden vectors are not reproduced."""

    exit_code = 3


class ParityError(MedtexError):
    """An export whose answers differ from the model it was made of; no file is left."""

    exit_code = 4


class DataError(MedtexError):
    """Photographs, labels or tables that cannot be used as they are."""

    exit_code = 5


class ImageError(DataError):
    """One photograph that cannot be decoded, or holds no visible field of view."""


class NoFieldOfView(ImageError):
    """The frame shows no fundus: black, overfilled, or without a dark border's inside."""


class SourceError(MedtexError):
    """A camera, stream, file or folder that cannot be opened, or that stopped."""

    exit_code = 6


class BackendError(MedtexError):
    """An inference engine that is missing, refuses the graph or fails at run time."""

    exit_code = 7


class TeacherError(MedtexError):
    """A teacher that cannot be loaded, or whose answers do not fit the classes."""

    exit_code = 8


class StorageError(MedtexError):
    """A file that could not be written: disk full, read-only, no permission."""

    exit_code = 9
