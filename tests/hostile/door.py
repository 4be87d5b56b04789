"""A process that takes uploads in, one after the other, and tells of each how it ended and what it cost.

Reads one JSON line a job from stdin, `{"source": …, "sandbox": …}`, and answers with one line. Two ways in are gone
each time: `alp check`, and the steps of an onboarding as far as the ledgers, in the flow's order, without Prefect's
server. Everything that Python opens for writing, makes, moves or removes is noted; so is every process or connection
that is started.

Seconds are of the processor, all threads together: the clock of a busy machine tells of its neighbours. Memory is the
peak of the whole process in MiB, without what it had mapped of files before, which is the libraries' code: Linux lets a
process forget its earlier peak.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from deployments import cli
from schemas.errors import AlpError, PackageError
from schemas.problems import Problem, Severity
from schemas.references import QualityReport, Verdict
from schemas.settings import OnboardSettings
from tasks import gate, intake, publishing, reporting, standardizing
from tasks.parallel import give_back_freed_memory
from tasks.runs import name_run
from tasks.store import FolderStore

CUSTOMER = "acme"
_PEAK = "/proc/self/clear_refs"
_SETTINGS = OnboardSettings(language="ko")
_WRITES = {
    "os.mkdir": ((0, 2),), "os.remove": ((0, 1),), "os.rmdir": ((0, 1),), "os.chmod": ((0, 2),),
    "os.truncate": ((0, None),), "os.rename": ((0, 2), (1, 3)), "os.link": ((0, 2), (1, 3)), "os.symlink": ((1, 2),),
}  # fmt: skip
"""Events that change the disk: places of the paths among their arguments, each with the folder it is relative to."""
_REACHES_OUT = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "socket.connect",
    "socket.bind",
}


class Watch:
    """What this process touched; an audit hook cannot be taken off again, so there is one for good."""

    def __init__(self) -> None:
        self.touched: set[str] = set()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
                self._note(path)
        elif event in _WRITES:
            for place, folder in _WRITES[event]:
                self._note(arguments[place], -1 if folder is None else arguments[folder])
        elif event in _REACHES_OUT:
            self.touched.add(event)

    def _note(self, path: object, folder: int = -1) -> None:
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path) != _PEAK:
            home = Path.cwd() if folder < 0 else Path(f"/proc/self/fd/{folder}").readlink()
            # Not Path.resolve: a link that was made is meant, not what it leads to.
            self.touched.add(os.path.normpath(home / os.fsdecode(path)))


def main() -> None:
    """Answer jobs until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    watch = Watch()
    for line in sys.stdin:
        job = json.loads(line)
        answer = take_in(Path(job["source"]), Path(job["sandbox"]), watch)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        # The libraries' objects stay for good: no collection needs to look through them again.
        gc.freeze()


def take_in(source: Path, sandbox: Path, watch: Watch) -> dict[str, Any]:
    """Both ways in for one upload; the sandbox holds `store`, `scratch` and `here`, the working folder."""
    os.chdir(sandbox / "here")
    tempfile.tempdir = str(sandbox / "scratch")
    watch.touched = set()
    answer = {
        "check": _measured(lambda: _check(source)),
        "onboard": _measured(lambda: _onboard(source, sandbox / "store")),
    }
    answer["touched"] = sorted(watch.touched)
    gc.collect()
    give_back_freed_memory()
    answer["resting_mebibytes"] = _resting_mebibytes()
    return answer


def _measured(way: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    gc.collect()
    give_back_freed_memory()
    _forget_peak()
    of_files = _told_mebibytes("RssFile")
    start = time.process_time()
    try:
        answer = way()
    except Exception:
        answer = {"exit_code": 1, "problems": [], "trace": traceback.format_exc()[-3000:]}
    return answer | {"seconds": time.process_time() - start, "mebibytes": _peak_mebibytes() - of_files}


def _resting_mebibytes() -> float:
    """What the process holds of its own when nothing is done: objects, and holes that uploads left in the heap.

    Of the libraries' files so much is mapped as the machine happens to have cached, 105 MiB or 145: it says nothing of
    the process.
    """
    return _told_mebibytes("RssAnon")


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path(_PEAK).write_text("5")


def _peak_mebibytes() -> float:
    try:
        return _told_mebibytes("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _told_mebibytes(entry: str) -> float:
    """What Linux says of this process under one of its names (proc_pid_status(5))."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{entry}:")[2].split()[0]) / 1024


# --- the two ways in ----------------------------------------------------------------------------------------------


def _check(source: Path) -> dict[str, Any]:
    """`alp check --json`, as its main function runs."""
    out = io.StringIO()
    sys.argv = ["alp", "check", str(source), "--json"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        try:
            cli.main()
        except SystemExit as end:
            exit_code = int(end.code or 0)
    document = json.loads(out.getvalue())
    found = document.get("error", document)["problems"]
    return {"exit_code": exit_code, "problems": _counted(Problem(**problem) for problem in found)}


def _onboard(source: Path, root: Path) -> dict[str, Any]:
    """receive → judge → standardize → report, or → report where the package is refused."""
    store = FolderStore(root).url
    try:
        package = intake.receive_package.fn(str(source), CUSTOMER, store, _SETTINGS)
        run = name_run(package, store, _SETTINGS)
        quality = gate.judge_package.fn(package, run)
        if quality.verdict is not Verdict.REJECTED:
            dataset = standardizing.file_package.fn(package, quality, run)
            standardizing.join_ledgers.fn(dataset, package, run)
        reporting.write_package_page.fn(package, quality, [], run, [])
        with patch.object(publishing, "_prefect_run_id", return_value=None):
            publishing.finish_run.fn(package, quality, [], [], run)
    except AlpError as error:
        problems = error.problems if isinstance(error, PackageError) else ()
        return {"exit_code": error.exit_code, "problems": _counted(problems), "message": str(error)}
    return {"exit_code": _exit_code(quality), "problems": _counted(quality.problems)}


def _exit_code(quality: QualityReport) -> int:
    return cli._exit_code(quality.verdict, bad_input=quality.bad_input)


def _counted(problems: Any) -> list[dict[str, Any]]:
    """How often each rule was broken, and its first problem; a hundred thousand of them need not be told one by one."""
    first: dict[str, dict[str, Any]] = {}
    for problem in problems:
        known = first.setdefault(problem.rule, {"problem": problem.model_dump(mode="json"), "count": 0})
        known["count"] += 1
    return [{"rule": rule, "holds_back": _holds_back(told), **told} for rule, told in first.items()]


def _holds_back(told: dict[str, Any]) -> bool:
    return told["problem"]["severity"] != Severity.WARN


if __name__ == "__main__":
    main()
