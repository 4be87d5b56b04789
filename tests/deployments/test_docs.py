"""README, docs and `--help` say the same, and every command and option is documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from deployments.cli import app
from schemas import errors
from schemas.references import AssetResult, OnboardResult
from schemas.settings import Environment

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_variable_is_described() -> None:
    missing = [name for name in Environment.model_fields if f"`ALP_{name.upper()}`" not in PAGE]
    assert not missing


def section(command: str) -> str:
    """What docs/commands.md says of one command."""
    match = re.search(rf"^## alp {command}\b.*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, f"docs/commands.md has no section '## alp {command}'"
    return match[0]


def flags(command: Any) -> set[str]:
    """Every option of a command, and of the commands below it."""
    own = {
        flag
        for parameter in command.params
        if parameter.param_type_name == "option" and parameter.name != "help"
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    return own.union(*(flags(below) for below in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    said = section(name)
    for flag in flags(COMMANDS[name]):
        assert f"`{flag}`" in said, f"docs/commands.md does not name {flag} of alp {name}"
    for below in getattr(COMMANDS[name], "commands", {}):
        assert f"`alp {name} {below}" in said, f"docs/commands.md does not name alp {name} {below}"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_help_opens_its_section(name: str) -> None:
    assert " ".join((COMMANDS[name].help or "").split()) in " ".join(section(name).split())


def test_no_command_or_option_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"^## alp (\w+)", PAGE, re.MULTILINE)) == set(COMMANDS)
    for name, command in COMMANDS.items():
        real = flags(command)
        assert set(re.findall(r"^\| `(--[\w-]+)`", section(name), re.MULTILINE)) <= real


def test_the_readme_names_every_command_and_only_those() -> None:
    assert set(re.findall(r"^\| `alp (\w+)", README, re.MULTILINE)) == set(COMMANDS)


def test_every_exit_code_of_the_error_tree_is_documented() -> None:
    codes = {
        kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.AlpError)
    }
    documented = {int(code) for code in re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE)}
    assert documented == codes | {0}


def test_every_field_of_the_json_is_documented() -> None:
    said = section("onboard")
    for field in [*OnboardResult.model_fields, *AssetResult.model_fields]:
        assert f'"{field}"' in said
