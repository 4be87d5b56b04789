"""One problem found in a package: where it is, what is wrong, and how to mend it.

A fault that stands in every row of a long table is listed for its first places; the last of these says of how many
further places, and of which rows, the same holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

MAX_LISTED = 200
"""Places of one rule in one column that are listed one by one."""

TABLE_ENDINGS = (".csv", ".xlsx")
"""Of the name of a package's table; of no other file that a problem names."""


class Severity(StrEnum):
    """What a problem does to the package."""

    ERROR = "error"
    """The contract is broken: the whole package is refused as bad input."""
    REJECT = "reject"
    """The clip is quarantined; the rest of the package goes on."""
    WARN = "warn"
    """Said in the report; nothing is held back."""


class Problem(BaseModel):
    """A breach of one rule at one place of a package."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str = Field(description="Stable id of the rule, such as `clip.duration`.")
    severity: Severity
    message: str = Field(description="What is wrong, in one sentence.")
    remedy: str = Field(description="What to do about it, in one sentence.")
    file: str | None = Field(default=None, description="Path inside the package.")
    row: int | None = Field(default=None, description="Line of the table, the header being line 1.")
    column: str | None = Field(default=None, description="Column of the form.")
    header: str | None = Field(default=None, description="What the table calls that column, where it is another name.")
    value: str | None = Field(default=None, description="The offending value as text, cut to 200 characters.")
    clip_id: str | None = None
    more: int = Field(default=0, ge=0, description="Further places with the same problem, which are not listed.")
    more_rows: tuple[tuple[int, int], ...] = Field(
        default=(), description="Lines of the table among the further places: first and last of each run."
    )

    @property
    def count(self) -> int:
        """For how many places it stands: its own and those not listed."""
        return 1 + self.more

    @property
    def column_name(self) -> str | None:
        """The column as one finds it in the table: `기계 종류 (machine_type)`."""
        return f"{self.header} ({self.column})" if self.header else self.column

    @property
    def is_in_table(self) -> bool:
        """Whether `file` is the table itself, and not a file that the table names."""
        return (self.file or "").casefold().endswith(TABLE_ENDINGS)

    @property
    def place(self) -> str:
        """Where the problem is, as one reads it: `metadata.csv, row 7, column label`."""
        parts = [self.file or ""]
        if self.row is not None:
            parts.append(f"row {self.row}" if self.is_in_table else f"row {self.row} of the table")
        if self.column:
            parts.append(f"column {self.column_name}")
        return ", ".join(part for part in parts if part)

    def rows(self) -> Iterator[int]:
        """Every line of the table for which it stands."""
        if self.row is not None:
            yield self.row
        yield from self.further_rows()

    def further_rows(self) -> Iterator[int]:
        """The lines of the table among the places that are not listed."""
        for first, last in self.more_rows:
            yield from range(first, last + 1)

    def __str__(self) -> str:
        found = f" = '{self.value}'" if self.value is not None else ""
        place = f"{self.place}{found}: " if self.place else ""
        more = f" (and {self.more:,} more like this)" if self.more else ""
        return f"{place}{self.message} {self.remedy}{more}"


def shorten(problems: Iterable[Problem], *, most: int = MAX_LISTED) -> list[Problem]:
    """At most `most` problems of one rule in one column, in their order; the last of these counts the others."""
    listed: list[Problem] = []
    places: defaultdict[tuple[str, str | None], list[int]] = defaultdict(list)
    further: defaultdict[tuple[str, str | None], list[Problem]] = defaultdict(list)
    for problem in problems:
        kind = (problem.rule, problem.column)
        if len(places[kind]) < most:
            places[kind].append(len(listed))
            listed.append(problem)
        else:
            further[kind].append(problem)
    for kind, others in further.items():
        last = places[kind][-1]
        listed[last] = stand_for(listed[last], (row for other in others for row in other.rows()), _count(others))
    return listed


def stand_for(problem: Problem, rows: Iterable[int], count: int) -> Problem:
    """The problem, standing for `count` further places, some of them at these lines of the table."""
    runs = as_runs([*problem.further_rows(), *rows])
    return problem.model_copy(update={"more": problem.more + count, "more_rows": runs})


def as_runs(rows: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Lines as runs without a gap, each as its first and last line."""
    runs: list[tuple[int, int]] = []
    for row in sorted(set(rows)):
        if runs and row == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], row)
        else:
            runs.append((row, row))
    return tuple(runs)


def _count(problems: Iterable[Problem]) -> int:
    return sum(problem.count for problem in problems)
