"""What the files hold: pins that fit, no machine's paths, no registry's hosts, no heavy binaries."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DIRECT = [Requirement(line) for line in PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]]
PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[0-9][\w.]*)")

MACHINE_PATH = re.compile(r"(?<![\w.}])/(?:work|root|home|Users|opt|mnt|tmp)/\w")
REGISTRY_HOST = re.compile(
    r"(?:pypi|debian|pytorch|npmjs|anaconda|pythonhosted|ubuntu)\.(?:org|com)/(?:simple|whl|packages|debian)"
    r"|/(?:files|download|deb|registry|conda|archive)\.(?:pythonhosted|pytorch|debian|npmjs|anaconda|ubuntu)\.(?:org|com)"
)
EXECUTES_WHEN_READ = {".bin", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
KIBIBYTE = 1024
LARGEST, LARGEST_PICTURE, LARGEST_SOUND_OR_MODEL = 512 * KIBIBYTE, 2048 * KIBIBYTE, 64 * KIBIBYTE
SOUND_OR_MODEL = {".flac", ".mp3", ".npy", ".npz", ".onnx", ".parquet", ".safetensors", ".wav", ".whl", ".xlsx", ".zip"}


@cache
def repository_files() -> tuple[Path, ...]:
    """Files that are, or could be, committed: what git lists, or without git what .gitignore's folders leave."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.split("\0")  # fmt: skip
        files = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()} | {".git"}
        files = [path for path in ROOT.rglob("*") if not ignored & set(path.relative_to(ROOT).parts)]
    return tuple(path for path in files if path.is_file())


@cache
def text_lines() -> tuple[tuple[str, str], ...]:
    """Each line of each text file with its place, `file:number`."""
    lines = []
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lines += [(f"{path.relative_to(ROOT)}:{n}", line) for n, line in enumerate(text.splitlines(), start=1)]
    return tuple(lines)


@cache
def pins() -> dict[str, Version]:
    """The exact versions of constraints.txt by normalized name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [PIN.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(found), "a line of constraints.txt is not NAME==VERSION"
    return {canonicalize_name(pin["name"]): Version(pin["version"]) for pin in found if pin}


@pytest.mark.parametrize(
    ("pattern", "holding", "free"),
    [
        (MACHINE_PATH, "see {}home/kim/audio", "see docs/home/index"),
        (MACHINE_PATH, "file://{}opt/audio", "s3://bucket/opt/audio"),
        (REGISTRY_HOST, "https:{}{}download.pytorch.org{}whl/cpu", "https://pytorch.org"),
        (REGISTRY_HOST, "https:{}{}pypi.org{}simple", "PyPI"),
    ],
)
def test_the_patterns_below_tell_one_from_the_other(pattern: re.Pattern[str], holding: str, free: str) -> None:
    assert pattern.search(holding.replace("{}", "/"))
    assert not pattern.search(free)


def test_no_file_names_a_path_of_a_machine() -> None:
    assert [place for place, line in text_lines() if MACHINE_PATH.search(line)] == []


def test_no_file_names_the_host_of_a_registry() -> None:
    assert [place for place, line in text_lines() if REGISTRY_HOST.search(line)] == []


def test_no_file_is_of_a_kind_that_runs_code_when_read() -> None:
    assert [path for path in repository_files() if path.suffix in EXECUTES_WHEN_READ] == []


def test_nothing_is_pickled() -> None:
    pickles = re.compile(
        r"^\s*(?:import|from)\s+(?:cloudpickle|dill|joblib|marshal|pickle|shelve)\b"
        r"|torch\.load\((?!.*weights_only=True)\w|torch\.save\(\w|allow_pickle[=]True|(?:read|to)_pickle\(\w"
    )
    assert [place for place, line in text_lines() if ".py:" in place and pickles.search(line)] == []


def test_recordings_and_weights_stay_out_and_pictures_stay_small() -> None:
    def limit(path: Path) -> int:
        if path.suffix in SOUND_OR_MODEL:
            return LARGEST_SOUND_OR_MODEL
        return LARGEST_PICTURE if path.is_relative_to(ROOT / "docs" / "pictures") else LARGEST

    assert [path for path in repository_files() if path.stat().st_size > limit(path)] == []


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_a_direct_dependency_is_pinned_inside_its_range(requirement: Requirement) -> None:
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned is not None, f"{requirement.name} is missing in constraints.txt: make constraints"
    assert requirement.specifier.contains(pinned, prereleases=True)


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_the_suite_runs_on_the_pinned_versions(requirement: Requirement) -> None:
    here = Version(metadata.version(requirement.name))
    assert Version(here.public) == pins()[canonicalize_name(requirement.name)]


def test_every_dependency_has_a_lowest_and_a_highest_version() -> None:
    bounds = {
        line: {part.operator for part in Requirement(line).specifier} for line in PROJECT["project"]["dependencies"]
    }
    assert [
        line for line, seen in bounds.items() if "==" not in seen and not ({">="} < seen and seen & {"<", "<="})
    ] == []


def test_the_makefile_installs_the_torch_that_is_pinned() -> None:
    (first,) = re.findall(r"^TORCH := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert first == f"torch=={pins()['torch']}"
    assert first in PROJECT["project"]["dependencies"]


def test_decision_records_are_numbered_without_gaps_and_titled_by_their_number() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [path.name[:4] for path in records]
    assert numbers == [f"{n:04d}" for n in range(len(records))]
    headings = [path.read_text(encoding="utf-8").partition("\n")[0] for path in records]
    assert [text[: len("# 0000 · ")] for text in headings] == [f"# {number} · " for number in numbers]


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for page in (path for path in repository_files() if path.suffix == ".md"):
        for target in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []
