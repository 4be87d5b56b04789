"""One heartbeat a process, that of its outermost flow run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_heartbeat() -> Iterator[None]:
    """Within, flow runs send no heartbeat of their own: they live and die with the process whose outermost run does.

    Prefect's thread that sends them looks once a second whether it may end, and a run waits for that: half a second on
    average at the end of each, ten in an onboarding of four machines.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
