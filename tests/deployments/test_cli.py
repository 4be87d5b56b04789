"""`alp` as a newcomer runs it: what it prints, where, and with which exit code."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.store import FolderStore

Alp = Callable[..., "subprocess.CompletedProcess[str]"]


def files(folder: Path) -> dict[str, bytes]:
    """Every object below a store's folder, a manifest without what differs from run to run."""
    store = FolderStore(folder)
    found = {key: store.get(key) for key in store.list_keys()}
    for name, data in found.items():
        if name.endswith("manifest.json"):
            document = json.loads(data)
            document["prefect_run_id"] = document["run"]["store"] = document["result"]["reused"] = None
            document["objects"] = {k: v for k, v in document["objects"].items() if not k.endswith("report.html")}
            found[name] = json.dumps(document).encode()
        elif name.endswith("succession.json"):
            found[name] = json.dumps([change | {"at": ""} for change in json.loads(data)["changes"]]).encode()
    return found


def test_help_lists_the_commands(fresh_alp: Alp) -> None:
    done = fresh_alp("--help")
    assert done.returncode == 0
    for command in ("toy", "check", "onboard", "demo"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nonsense",), 2),
        (("onboard",), 2),
        (("onboard", "x.zip", "--engine", "z"), 2),
        (("onboard", "x.zip", "--customer", "Not A Slug"), 2),
        (("onboard", "x.zip", "--store", "ftp://x"), 2),
        (("toy", "t", "--machine-type", "teapot"), 2),
        (("check", "no-such-file.zip"), 3),
        (("onboard", "no-such-file.zip"), 3),
    ],
)
def test_exit_codes_of_what_cannot_work(alp: Alp, tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    done = alp(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_toy_writes_the_same_bytes_twice_and_refuses_to_overwrite(alp: Alp, tmp_path: Path) -> None:
    arguments = ("--machine-type", "fan", "--scale", "0.001", "--json")
    first = alp("toy", "a.zip", *arguments, cwd=tmp_path)
    second = alp("toy", "b.zip", *arguments, cwd=tmp_path)
    assert first.returncode == second.returncode == 0
    assert json.loads(first.stdout)["machine_types"] == ["fan"]
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert alp("toy", "a.zip", *arguments, cwd=tmp_path).returncode == 2


def test_check_names_six_faults_in_one_pass(alp: Alp, toy_zip: Path, tmp_path: Path) -> None:
    faulty = tmp_path / "faulty.zip"
    with zipfile.ZipFile(toy_zip) as source, zipfile.ZipFile(faulty, "w") as target:
        rows = list(csv.DictReader(source.read("metadata.csv").decode().splitlines()))
        train = [row for row in rows if row["split"] == "train"]
        broken, missing, repeated, outside = train[0], train[1], train[2], train[3]
        broken_file, missing_file = broken["relative_path"], missing["relative_path"]
        repeated["clip_id"] = outside["clip_id"] = "twice"
        unknown = next(row for row in rows if row["split"] == "test")
        unknown["machine_type"] = "teapot"
        anomaly = next(row for row in rows if row["label"] == "anomaly")
        anomaly["split"] = "train"
        escape = next(row for row in rows if row["split"] == "supplemental")
        escape["relative_path"] = "../../etc/passwd"
        table = tmp_path / "metadata.csv"
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        target.write(table, "metadata.csv")
        for name in source.namelist():
            if name == broken_file:
                target.writestr(name, source.read(name)[:20])
            elif name not in ("metadata.csv", missing_file):
                target.writestr(name, source.read(name))
    done = alp("check", str(faulty), "--json")
    assert done.returncode == 3
    found = json.loads(done.stdout)
    assert found["verdict"] == "rejected"
    said = "\n".join(f"{p['file']} {p['row']} {p['column']} {p['value']} {p['message']}" for p in found["problems"])
    for fault in (broken_file, missing_file, "twice", "../../etc/passwd", "teapot", anomaly["clip_id"]):
        assert fault in said or any(fault == p["clip_id"] for p in found["problems"]), (
            f"{fault} was not named in\n{said}"
        )
    for problem in found["problems"]:
        assert problem["remedy"]
    spoken = alp("check", str(faulty))
    assert spoken.returncode == 3
    assert "teapot" in spoken.stdout


def test_onboarding_twice_reuses_everything_and_json_is_alone_on_stdout(
    fresh_alp: Alp, alp: Alp, toy_zip: Path, tmp_path: Path
) -> None:
    arguments = (
        "onboard",
        str(toy_zip),
        "--customer",
        "acme",
        "--encoder",
        "logmel",
        "--store",
        f"file://{tmp_path}/s",
    )
    first = fresh_alp(*arguments, "--json")
    assert first.returncode == 0, first.stderr
    before = files(tmp_path / "s")
    second = alp(*arguments, "--json")
    one, two = json.loads(first.stdout), json.loads(second.stdout)
    assert one["reused"] == []
    assert set(two["reused"]) >= {"qa", "standardize", "score", "calibrate"}
    assert {**one, "reused": None} == {**two, "reused": None}
    assert files(tmp_path / "s") == before
    assert Path(one["assets"][0]["report"]).is_file()
    spoken = alp(*arguments)
    assert "Reused" in spoken.stdout
    assert one["assets"][0]["report"] in spoken.stdout


def test_a_killed_onboarding_run_again_ends_as_if_undisturbed(
    alp: Alp, alp_environment: dict[str, str], toy_zip: Path, tmp_path: Path
) -> None:
    def arguments(store: str) -> list[str]:
        return [
            "onboard",
            str(toy_zip),
            "--customer",
            "acme",
            "--encoder",
            "logmel",
            "--store",
            f"file://{tmp_path}/{store}",
        ]

    command = [sys.executable, "-m", "deployments.cli", *arguments("killed")]
    process = subprocess.Popen(
        command, env=alp_environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("packages/acme/*/audio/*.flac")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").rglob("manifest.json"))
    assert alp(*arguments("killed")).returncode == 0
    assert alp(*arguments("undisturbed")).returncode == 0
    assert files(tmp_path / "killed") == files(tmp_path / "undisturbed")


def test_a_rejected_package_exits_with_4_and_its_page_is_there(alp: Alp, toy_zip: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.zip"
    with zipfile.ZipFile(toy_zip) as source, zipfile.ZipFile(few, "w") as target:
        lines = source.read("metadata.csv").decode().splitlines()
        chosen = [line for line in lines if "_target_train_normal_" in line][:2]
        target.writestr("metadata.csv", "\n".join([lines[0], *chosen]))
        for line in chosen:
            name = line.split(",")[0]
            target.writestr(name, source.read(name))
    done = alp("onboard", str(few), "--store", f"file://{tmp_path}/s", "--json")
    assert done.returncode == 4, done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == "rejected"
    assert (tmp_path / "s" / "runs" / "local" / result["run_id"] / "report.html").is_file()
    assert alp("check", str(few)).returncode == 4


def test_an_error_is_one_json_document_too(alp: Alp, tmp_path: Path) -> None:
    done = alp("check", str(tmp_path / "none.zip"), "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["exit_code"] == 3


def test_a_dry_run_leaves_no_store(alp: Alp, toy_zip: Path, tmp_path: Path) -> None:
    done = alp("onboard", str(toy_zip), "--store", f"file://{tmp_path}/s", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["assets"][0]["engine"] == "a"
    assert not (tmp_path / "s").exists()


def test_a_prefect_server_that_does_not_answer_is_an_environment_fault(
    alp: Alp, alp_environment: dict[str, str], toy_zip: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "deployments.cli", "onboard", str(toy_zip), "--store", f"file://{tmp_path}/s"]
    environment = alp_environment | {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 5, done.stderr
    assert "127.0.0.1:9" in done.stderr
