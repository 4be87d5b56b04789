"""One problem found in a package: where it is, what is wrong, and how to mend it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


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
    column: str | None = None
    value: str | None = Field(default=None, description="The offending value as text, cut to 200 characters.")
    clip_id: str | None = None

    @property
    def place(self) -> str:
        """Where the problem is, as one reads it: `metadata.csv, row 7, column label`."""
        parts = [self.file or ""]
        if self.row is not None:
            parts.append(f"row {self.row}")
        if self.column:
            parts.append(f"column {self.column}")
        return ", ".join(part for part in parts if part)

    def __str__(self) -> str:
        found = f" = {self.value!r}" if self.value is not None else ""
        place = f"{self.place}{found}: " if self.place else ""
        return f"{place}{self.message} {self.remedy}"
