"""Pages without the pictures of clips and without Data Docs: a small package needs less time for all else."""

from __future__ import annotations

from typing import Any

import pytest

PICTURE = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>"


def make_pages_bare(patch: pytest.MonkeyPatch) -> None:
    """Let runs of this process state nothing by Great Expectations, and draw no clip."""
    from tasks.expectations import Statements

    def draw_nothing(*_: Any, **__: Any) -> str:
        return PICTURE

    patch.setattr("tasks.expectations.state_quality", lambda *_: Statements(outcomes=(), page=""))
    patch.setattr("tasks.report.plots.draw_map", draw_nothing)
    patch.setattr("tasks.report.plots.draw_spectrogram", draw_nothing)
