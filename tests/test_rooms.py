"""The rooms import one way, and stay light where lightness is promised.

Lightness is asserted by what is not imported, never by a clock: a busy machine would make it lie.
"""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import engines
import schemas

ROOT = Path(__file__).resolve().parents[1]
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
ROOMS = TOOLS["hatch"]["build"]["targets"]["wheel"]["packages"]
ONE_WAY, PURE = TOOLS["importlinter"]["contracts"]

SLOW_TO_IMPORT = {
    "great_expectations",
    "librosa",
    "matplotlib",
    "numba",
    "pandas",
    "pandera",
    "prefect",
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
}
# The table contracts are written in pandera, so these modules are imported only where a table is at hand.
TABLE_MODULES = {"schemas.metadata"}

ROOM_MODULES = {
    room.__name__: [found.name for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
    for room in (schemas, engines)
}


def imported_by(code: str) -> set[str]:
    """Top-level names in `sys.modules` after a new interpreter ran `code` from the root of the checkout."""
    report = "\nimport json, sys; print(); print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter by this project's contracts over the rooms under `folder`."""
    command = Path(sys.executable).with_name("lint-imports")
    config = ("--config", str(ROOT / "pyproject.toml"), "--no-cache", "--no-logo")
    return subprocess.run([str(command), *config], cwd=folder, capture_output=True, text=True, check=False)


def write_rooms(folder: Path, **content: str) -> None:
    """Write five empty rooms, some with the given source in their `__init__`."""
    for room in ROOMS:
        (folder / room).mkdir()
        (folder / room / "__init__.py").write_text(content.get(room, ""), encoding="utf-8")


def test_the_rooms_keep_the_import_contracts() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("engines", "import tasks"),
        ("schemas", "import engines"),
        ("tasks", "import flows"),
        ("engines", "import prefect"),
    ],
)
def test_an_import_against_the_rule_is_found(tmp_path: Path, room: str, source: str) -> None:
    write_rooms(tmp_path, **{room: source})
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout


def test_every_room_is_packed_and_stands_in_the_rule() -> None:
    assert set(ROOMS) == set(ONE_WAY["layers"]) == set(TOOLS["importlinter"]["root_packages"])
    assert set(PURE["source_modules"]) == {"schemas", "engines"}


def test_schemas_are_light_to_import() -> None:
    light = ["schemas", *(name for name in ROOM_MODULES["schemas"] if name not in TABLE_MODULES)]
    loaded = imported_by("\n".join(f"import {name}" for name in light))
    assert "pydantic" in loaded
    assert not loaded & SLOW_TO_IMPORT


def test_schemas_and_engines_import_where_their_forbidden_packages_are_absent() -> None:
    names = [name for room in ROOM_MODULES.values() for name in room]
    absent = f"import sys\nfor name in {PURE['forbidden_modules']}: sys.modules[name] = None\n"
    loaded = imported_by(absent + "\n".join(f"import {name}" for name in names))
    assert {"schemas", "engines", "numpy"} <= loaded


def test_the_command_line_helps_without_importing_what_is_slow() -> None:
    loaded = imported_by(
        "import sys\n"
        "from deployments.cli import main\n"
        "sys.argv = ['alp', '--help']\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code"
    )
    assert {"typer", "deployments"} <= loaded
    assert not loaded & SLOW_TO_IMPORT


def test_what_only_looks_up_an_asset_and_its_champion_does_not_wait_for_prefect() -> None:
    loaded = imported_by("import tasks.assets, tasks.challenges, deployments.champion_commands")
    assert {"pandas", "deployments"} <= loaded
    assert not loaded & {"prefect", "scipy", "torch", "librosa", "transformers"}


@pytest.mark.parametrize("flow", ["monitor", "onboard", "retrain", "scheduled"])
def test_a_look_that_finds_nothing_does_not_wait_for_what_learns_or_draws(flow: str) -> None:
    loaded = imported_by(f"import sys, flows.{flow}\nassert 'scipy.stats' not in sys.modules")
    assert "prefect" in loaded
    assert not loaded & {"great_expectations", "librosa", "matplotlib", "numba", "sklearn", "torch", "transformers"}
