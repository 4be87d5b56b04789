"""Every error ALP raises on purpose, in one tree, each with the exit code of the `alp` command.

    AlpError                    1   a fault of ours
    ├── UsageError              2   the command or a setting makes no sense
    │   └── LabelsError         2   … what it says of recordings breaks the contract, with every problem
    ├── InputError              3   what was sent is not a package, a table or a sound ALP can read
    │   └── PackageError        3   … with every problem found in one pass
    ├── RejectedError           4   readable, but the quality gate says no
    └── EnvironmentFault        5   a store, a server or weights that are not there
        ├── StoreError
        │   └── ConflictError   5   … somebody else changed an object meanwhile
        └── WeightsError

A message names the file, row, column and value where there is one, and says how to mend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.problems import Problem


class AlpError(Exception):
    """Base of every error that ALP raises on purpose."""

    exit_code = 1


class UsageError(AlpError):
    """The command, an option or a setting makes no sense."""

    exit_code = 2


class LabelsError(UsageError):
    """What a command says of recordings breaks the contract; `problems` holds every breach, of a column each."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class InputError(AlpError):
    """What was sent cannot be read as what it should be."""

    exit_code = 3


class PackageError(InputError):
    """A package breaks the contract; `problems` holds every breach found in one pass."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class RejectedError(AlpError):
    """The package can be read, but the quality gate rejects it."""

    exit_code = 4


class EnvironmentFault(AlpError):
    """Something ALP stands on is missing or broken."""

    exit_code = 5


class StoreError(EnvironmentFault):
    """The object store cannot be reached, read or written."""


class ConflictError(StoreError):
    """Somebody else changed an object between reading and writing it; what they wrote stands."""


class WeightsError(EnvironmentFault):
    """Pretrained weights are absent, or are not the file they should be."""
