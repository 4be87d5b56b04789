"""README, docs and `--help` say the same, and every command and option is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from deployments.cli import app
from schemas import errors
from schemas.references import AssetResult, OnboardResult

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(command: str) -> str:
    """What docs/commands.md says of one command."""
    match = re.search(rf"^## alp {command}\b.*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, f"docs/commands.md has no section '## alp {command}'"
    return match[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    said = section(name)
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            for flag in parameter.opts:
                assert f"`{flag}`" in said, f"docs/commands.md does not name {flag} of alp {name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_help_opens_its_section(name: str) -> None:
    assert " ".join((COMMANDS[name].help or "").split()) in " ".join(section(name).split())


def test_no_command_or_option_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"^## alp (\w+)", PAGE, re.MULTILINE)) == set(COMMANDS)
    for name, command in COMMANDS.items():
        real = {flag for parameter in command.params for flag in parameter.opts}
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
