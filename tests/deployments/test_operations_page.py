"""docs/operations.md types no command, and no option, that there is not. `make faults` types all of it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from deployments.cli import app

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
CODE = re.findall(r"^ *```(\w*)\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
TYPED = {match for _, block in CODE for match in re.findall(r"(?:^|bin/| )(alp [a-z][^|&;)\n]*)", block, re.MULTILINE)}
TYPED |= set(re.findall(r"`(alp [a-z][^`<…]*)`", " ".join(PAGE.split())))


def test_the_page_types_commands() -> None:
    assert len(TYPED) > 20
    assert {kind for kind, _ in CODE} == {"bash", "sh", "crontab"}


@pytest.mark.parametrize("line", sorted(TYPED))
def test_every_command_and_option_on_the_page_exists(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line.rstrip("\\ "))[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    is_group = bool(getattr(command, "commands", {}))
    assert not is_group or command.invoke_without_command, f"{line}: which of {sorted(command.commands)}?"
    options = {name for each in command.params if each.param_type_name == "option" for name in each.opts}
    assert {word.split("=")[0] for word in words if word.startswith("-")} <= options
