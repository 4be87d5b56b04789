"""Logs as JSON lines, each with whose run it is of: customer, machine, package, run and stage.

`JsonLines` takes the place of Prefect's handler for the terminal in any process that has ALP: a server, a worker, a
run, `alp` itself. Prefect makes its handlers while it is imported, from a file whose every entry an environment
variable overrules; `ENVIRONMENT` holds those variables. So nothing here may import Prefect before a line is written.

A line is one JSON object in ASCII, whatever the locale. What is not known of it is left out:

    time                          when, in UTC, to the millisecond
    level, logger, message        as the standard library has them
    customer, machine_type, asset, package, run
                                  as keys of the store have them (docs/storage.md)
    stage, step                   flow and task: `score`, `Fit an engine`
    flow_run, flow_run_id, task_run, task_run_id, deployment
                                  as Prefect calls them
    exception                     the traceback, where there is one

Whose run it is of is read off the parameters of the flow and the task that the line was written in, which are small
references (`schemas.references`); so it is the same on any machine and in any process that a step runs in. In a process
that Prefect carries a step to, the flow's parameters are plain mappings, and are read all the same.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic import BaseModel

ENVIRONMENT = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": "tasks.json_logs.JsonLines",
    # What of Prefect's own workings is an error goes by a handler of its own.
    "PREFECT_LOGGING_HANDLERS_DEBUG_CLASS": "tasks.json_logs.JsonLines",
}
"""What makes a process of Prefect's write JSON lines, from its start on."""

_LABELS = {
    "customer": "customer",
    "machine_type": "machine_type",
    "asset_id": "asset",
    "package_id": "package",
    "run_id": "run",
}
"""Fields of references, and what a line calls them."""
_PREFECT = {
    "flow_run_name": "flow_run",
    "flow_run_id": "flow_run_id",
    "task_run_name": "task_run",
    "task_run_id": "task_run_id",
    "deployment_name": "deployment",
    "flow_name": "stage",
    "task_name": "step",
}
FIELDS = (*dict.fromkeys((*_LABELS.values(), *_PREFECT.values())),)
"""What a line may say of a run."""
_UNKNOWN = "<unknown>"
"""What Prefect writes of a run that has not begun."""
_PARAMETERS = {"customer": "customer", "machine_type": "machine_type", "asset": "asset", "asset_id": "asset"}
"""Parameters that are plain texts, and what a line calls them."""
_DEEPEST = 4
_REMEMBERED = 1000
"""Runs of flows and tasks. The line that one has ended is written when its parameters are out of reach."""


class JsonLines(logging.StreamHandler[TextIO]):
    """Writes records to a stream, one JSON object a line; a formatter that it is given counts for nothing."""

    def __init__(self, stream: TextIO | None = None, styles: Mapping[str, str] | None = None) -> None:
        """`styles` is what Prefect's file gives its own handler, which colours lines."""
        super().__init__(stream)
        self._known: OrderedDict[str, dict[str, str]] = OrderedDict()

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, without its end."""
        return json_line(
            record.levelname,
            record.getMessage(),
            logger=record.name,
            time=datetime.fromtimestamp(record.created, UTC),
            **self._whose(record),
            **_of_prefect(record),
            exception="".join(traceback.format_exception(*record.exc_info)) if record.exc_info else None,
        )

    def _whose(self, record: logging.LogRecord) -> dict[str, str]:
        """Labels of the flow the line is of, and over them those of the task, or of the one that this is a part of."""
        if (context := sys.modules.get("prefect.context")) is None:
            return {}
        flow, task = context.FlowRunContext.get(), context.TaskRunContext.get()
        flow_run, task_run = str(getattr(record, "flow_run_id", "")), str(getattr(record, "task_run_id", ""))
        around = ""
        if flow is not None and flow.flow_run is not None:
            flow_run = flow_run or str(flow.flow_run.id)
            self._remember(str(flow.flow_run.id), flow.parameters or {})
        if task is not None:
            around = str(task.task_run.id)
            self._remember(around, task.parameters)
        known = (self._known.get(run, {}) for run in (flow_run, around, task_run))
        return {label: value for labels in known for label, value in labels.items()}

    def _remember(self, run: str, parameters: Mapping[str, Any]) -> None:
        if run not in self._known:
            self._known[run] = labels_of(parameters)
        self._known.move_to_end(run)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def json_line(level: str, message: str, *, logger: str = "alp", time: datetime | None = None, **more: Any) -> str:
    """One line; what of `more` is None or empty is left out."""
    told = {
        "time": (time or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        "logger": logger,
        "message": message,
        **{name: value for name, value in more.items() if value},
    }
    return json.dumps(told, default=str)


def labels_of(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Whose a run with these parameters is; of two that say it, the first."""
    labels: dict[str, str] = {}
    for name, value in parameters.items():
        if isinstance(value, str) and name in _PARAMETERS:
            labels.setdefault(_PARAMETERS[name], value)
        elif isinstance(value, BaseModel | Mapping):
            for label, said in _said_by(value, _DEEPEST):
                labels.setdefault(label, said)
    return labels


def _said_by(reference: BaseModel | Mapping[str, Any], deepest: int) -> Iterator[tuple[str, str]]:
    """Labels that a reference holds, its own before those of what it is made of."""
    below = []
    for name, value in reference.items() if isinstance(reference, Mapping) else reference:
        if isinstance(value, str) and name in _LABELS:
            yield _LABELS[name], value
        elif isinstance(value, BaseModel | Mapping) and deepest > 1:
            below.append(value)
    for each in below:
        yield from _said_by(each, deepest - 1)


def _of_prefect(record: logging.LogRecord) -> dict[str, Any]:
    said = {label: getattr(record, name, None) for name, label in _PREFECT.items()}
    return {label: value for label, value in said.items() if value != _UNKNOWN}
