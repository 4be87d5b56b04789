"""The wheel, and an installation of it into an empty environment, away from the checkout.

The installation is a real one, every dependency included, because a missing dependency or data file shows nowhere
else. It takes pip's package index; `ALP_OFFLINE=1` skips it on a machine that has none.
"""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

IMPORT_EVERYTHING = """
import importlib, pathlib, pkgutil, sys
home = pathlib.Path(sys.prefix).resolve()
for room in sys.argv[1:]:
    package = importlib.import_module(room)
    names = [room, *(found.name for found in pkgutil.walk_packages(package.__path__, room + "."))]
    for name in names:
        file = pathlib.Path(importlib.import_module(name).__file__).resolve()
        assert file.is_relative_to(home), f"{name} came from {file}"
        print(name)
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without this environment's import paths; its output is shown when the test fails."""
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr, sep="\n")
    return done


def fast_folder() -> str | None:
    """A folder in memory where there is room for one: deleting 36,000 files from a disk can outlast installing them."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        return None
    state = os.statvfs(memory)
    return str(memory) if state.f_bavail * state.f_frsize > 4 * 2**30 and not state.f_flag & os.ST_NOEXEC else None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `python -m build` makes it from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    assert run(*build, cwd=folder).returncode == 0
    (built,) = folder.glob("alp-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Path]:
    """A new environment that holds nothing but the wheel and what it depends on; over 1 GB, so not kept."""
    if os.environ.get("ALP_OFFLINE"):
        pytest.skip("ALP_OFFLINE is set: installing the wheel takes a package index")
    torch = next(line for line in PROJECT["project"]["dependencies"] if line.startswith("torch=="))
    with tempfile.TemporaryDirectory(prefix="alp-wheel-", dir=fast_folder()) as name:
        home = Path(name) / "venv"
        venv.create(home, with_pip=False)
        pip = (sys.executable, "-m", "pip", "--python", home / "bin" / "python", "--quiet", "--retries", "10")
        for requirement in (torch, wheel):
            install = (*pip, "install", "--no-compile", "-c", ROOT / "constraints.txt", requirement)
            assert run(*install, cwd=home).returncode == 0
        yield home


def test_the_wheel_holds_every_file_of_the_rooms_and_nothing_else(wheel: Path) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert any(not name.endswith(".py") for name in expected), "templates and YAML are package data"
    assert packed == expected | {"deployments/prefect.yaml"}, (
        "what lies at the top of a checkout, `alp up` registers too"
    )


def test_the_wheel_cannot_be_uploaded_and_carries_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        licence = archive.read(name.replace("METADATA", "licenses/LICENSE")).decode()
    assert "Private :: Do Not Upload" in metadata.get_all("Classifier", [])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in licence


@pytest.mark.timeout(1200)
def test_alp_answers_from_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    helped = run(installed / "bin" / "alp", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "onboard" in helped.stdout


@pytest.mark.timeout(1200)
def test_every_module_imports_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    imported = run(installed / "bin" / "python", "-I", "-c", IMPORT_EVERYTHING, *ROOMS, cwd=tmp_path)
    assert imported.returncode == 0
    assert set(ROOMS) <= set(imported.stdout.split())
