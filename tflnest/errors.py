"""The exceptions of tflnest, one tree.

Every exception says what went wrong (with the numbers) and may carry a hint: what to do next. The command
line prints both and exits with `exit_code`; nothing else in the library prints or exits.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns to the shell."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DEVICE = 3
    VERIFICATION = 4
    DOES_NOT_FIT = 5
    INTERRUPTED = 130


class TflnestError(Exception):
    """Base of all errors that a user can cause and mend.

    Args:
        message: What went wrong, with the numbers.
        hint: What to do next, one sentence; None where the message says it all.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class UsageError(TflnestError):
    """An argument, option or recipe that makes no sense."""

    exit_code = ExitCode.USAGE


class FormatError(TflnestError):
    """A file that is not what it says: truncated, corrupt, inconsistent, or of an unknown version."""


class UnsupportedError(TflnestError):
    """A valid model that uses something tflnest does not do."""


class MissingExtraError(TflnestError):
    """An optional dependency is not installed.

    Args:
        package: The import name that was not found.
        extra: The extra of tflnest that installs it.
        purpose: What it is needed for ("to read Keras models").
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"the package {package!r} is needed {purpose}, and is not installed",
            f'install it with: pip install "tflnest[{extra}]"',
        )
        self.package = package
        self.extra = extra


class DeviceError(TflnestError):
    """A port or device that cannot be opened, does not answer, or answers with an error."""

    exit_code = ExitCode.DEVICE


class VerificationError(TflnestError):
    """Two things that must be equal are not."""

    exit_code = ExitCode.VERIFICATION


class StoppedError(TflnestError):
    """Work that the user stopped."""

    exit_code = ExitCode.INTERRUPTED


class BudgetError(TflnestError):
    """Budgets that cannot be met together, or at all."""

    exit_code = ExitCode.DOES_NOT_FIT


class DoesNotFitError(TflnestError):
    """A model that needs more memory than the board has.

    Args:
        message: Which memory, and short by how many bytes, at which operator.
        hint: What would fit.
        memory: "sram" or "flash".
        needed_bytes: Bytes that are needed.
        available_bytes: Bytes that the board has.
        operator: Index of the operator where the need is largest; None where no operator is to blame.
    """

    exit_code = ExitCode.DOES_NOT_FIT

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        memory: str,
        needed_bytes: int,
        available_bytes: int,
        operator: int | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.memory = memory
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes
        self.operator = operator
