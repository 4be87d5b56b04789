"""Hold the exact versions of constraints.txt against public advisories, with pip-audit.

pip-audit ends well where a service answers that it knows nothing of a package, as an index that is no more than a
mirror does for every one. So a version that is known to be unsafe is asked for first: only a service that says so is
believed. Where none does, that is said in capitals, and nothing is claimed; docs/decisions/0027 says why that is no
failure unless `--strict` is given.

Exit codes: 0 nothing known, or nobody could be asked; 1 an advisory that nobody accepted, a service that broke off, or,
with --strict, nobody could be asked.

`.ci/accepted-advisories.txt` holds what was looked at and accepted: id, until when (a date), and why, a line each.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PINS, ACCEPTED = ROOT / "constraints.txt", ROOT / ".ci" / "accepted-advisories.txt"
SERVICES = ("pypi", "osv")
KNOWN_UNSAFE = "jinja2==2.4.1"
"""CVE-2014-0012, CVE-2016-10745, CVE-2019-10906 and others."""
_PATIENCE_S = 600
_ACCEPTANCE = re.compile(r"(\S+) +(\d{4}-\d\d-\d\d) +(\S.*)")

Ask = Callable[[str, Path], "list[dict[str, Any]] | None"]
"""What a service says of each requirement of a file; None where it cannot be asked."""


@dataclass(frozen=True)
class Advisory:
    """One that is about a version that is pinned."""

    package: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]


@dataclass(frozen=True)
class Acceptance:
    """An advisory that somebody looked at: it is no reason to stop until a day."""

    advisory: str
    until: date
    why: str


def main(arguments: Sequence[str]) -> int:
    """Audit, print what came of it, and give the exit code."""
    parser = argparse.ArgumentParser(description="Hold the pinned dependencies against public advisories.")
    parser.add_argument("--strict", action="store_true", help="fail where no service can be asked")
    strict = parser.parse_args(arguments).strict
    service = believed_service(ask_pip_audit)
    if service is None:
        print(
            "NOT AUDITED: no service of advisories can be asked from here (pypi.org, osv.dev), so nothing is known of"
            f" the dependencies' safety. Where one can: {Path(sys.executable).name} .ci/audit.py --strict",
            file=sys.stderr,
        )
        return 1 if strict else 0
    answers = ask_pip_audit(service, PINS)
    if answers is None:
        print(f"NOT AUDITED: {service} answered at first, and then no more; try again", file=sys.stderr)
        return 1
    return judge(answers, read_accepted(ACCEPTED.read_text(encoding="utf-8")), today=datetime.now(UTC).date())


def believed_service(ask: Ask) -> str | None:
    """The first service that knows an unsafe version for what it is."""
    with tempfile.TemporaryDirectory(prefix="alp-") as folder:
        probe = Path(folder) / "probe.txt"
        probe.write_text(f"{KNOWN_UNSAFE}\n", encoding="ascii")
        return next((service for service in SERVICES if advisories(ask(service, probe) or [])), None)


def ask_pip_audit(service: str, requirements: Path) -> list[dict[str, Any]] | None:
    """What a service says of exact versions, without installing or resolving anything."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--vulnerability-service",
        service,
        "--requirement",
        str(requirements),
    ]
    command += ["--format", "json", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return None
    if "No module named pip_audit" in done.stderr:
        sys.exit("pip-audit is not installed; `make check` sets it up")
    try:
        answers: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    return answers


def advisories(answers: Iterable[dict[str, Any]]) -> list[Advisory]:
    """Those that are about one of the versions asked for."""
    return [
        Advisory(
            package=f"{each['name']} {each['version']}",
            ids=(found["id"], *found.get("aliases", ())),
            fixed_in=tuple(found.get("fix_versions", ())),
        )
        for each in answers
        for found in each.get("vulns", ())
    ]


def read_accepted(text: str) -> list[Acceptance]:
    """Acceptances, one a line; lines that begin with # say nothing.

    Raises
    ------
    ValueError
        A line is not an id, a date and a reason.
    """
    accepted = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if (said := _ACCEPTANCE.fullmatch(line.strip())) is None:
            raise ValueError(f"{ACCEPTED.name}, line {number}: write an id, a date (2027-01-31) and why")
        advisory, until, why = said.groups()
        accepted.append(Acceptance(advisory, date.fromisoformat(until), why))
    return accepted


def judge(answers: Sequence[dict[str, Any]], accepted: Iterable[Acceptance], *, today: date) -> int:
    """Print what is known of the versions, and give the exit code."""
    open_until = {each.advisory: each for each in accepted if today <= each.until}
    found = advisories(answers)
    bad = [advisory for advisory in found if not open_until.keys() & set(advisory.ids)]
    for advisory in bad:
        remedy = f"fixed in {', '.join(advisory.fixed_in)}" if advisory.fixed_in else "no version mends it yet"
        print(f"{advisory.package}: {' '.join(advisory.ids)}; {remedy}", file=sys.stderr)
    unknown = [each["name"] for each in answers if "skip_reason" in each]
    told = f"{len(answers) - len(unknown)} packages audited, {len(found)} advisories, {len(found) - len(bad)} accepted"
    print(f"{told}; not known to the service: {', '.join(unknown)}" if unknown else told)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
