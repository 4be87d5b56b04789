"""A bare folder of normals becomes a package that the gate accepts, and nothing else is made of it."""

from __future__ import annotations

import os
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from schemas.errors import AlpError, EnvironmentFault, InputError, UsageError
from schemas.references import Verdict
from tasks.packages import open_package
from tasks.packing import Labels, pack_folder
from tasks.quality import judge

FAN = Labels("팬", "3호기", confirmed_by="Kim", recorded_at="2026-03-02")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four recordings at two depths, and things that are none."""
    place = tmp_path / "recordings"
    (place / "monday").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.wav", "b.WAV", "monday/a.wav", "monday/소리.flac"):
        sound = (0.1 * rng.standard_normal(32_000)).astype(np.float32)
        soundfile.write(place / name, sound, 16_000, format="FLAC" if name.endswith("flac") else "WAV")
    (place / "readme.txt").write_text("a note")
    (place / ".hidden.wav").write_bytes(b"")
    return place


def test_a_packed_folder_is_accepted_by_the_gate(folder: Path, tmp_path: Path) -> None:
    packed = pack_folder(folder, tmp_path / "p.zip", FAN)
    with open_package(packed.path) as archive:
        judgement = judge(archive)

    assert judgement.verdict is Verdict.ACCEPTED
    assert {problem.rule for problem in judgement.problems} == {"asset.few_normals", "asset.short_clips", "ask.noise"}
    table = judgement.metadata
    assert table["relative_path"].tolist() == [
        "audio/a.wav", "audio/b.WAV", "audio/monday/a.wav", "audio/monday/소리.flac",
    ]  # fmt: skip
    assert set(table["machine_type"]) == {"fan"}
    assert set(table["section_id"]) == {"3호기"}
    assert table["confirmed_normal"].all()
    assert set(table["split"]) == {"train"}
    assert (packed.recordings, packed.left_out) == (4, ("readme.txt",))


def test_sounds_are_copied_byte_for_byte_and_the_folder_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    pack_folder(folder, tmp_path / "p.zip", FAN)

    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert archive.read("audio/monday/a.wav") == (folder / "monday/a.wav").read_bytes()


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "1.zip", FAN)
    os.utime(folder / "a.wav", (0, 0))
    pack_folder(folder, tmp_path / "2.zip", FAN)

    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_a_folder_that_has_its_audio_folder_already_gets_no_second_one(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "audio")
    pack_folder(tmp_path, tmp_path.with_suffix(".zip"), FAN)
    with zipfile.ZipFile(tmp_path.with_suffix(".zip")) as archive:
        assert "audio/monday/a.wav" in archive.namelist()


def test_links_are_left_out_and_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "loop").symlink_to(folder)
    packed = pack_folder(folder, tmp_path / "p.zip", FAN)

    assert packed.recordings == 4
    assert "link.wav" in packed.left_out


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.xlsx", "Form.XLSX"])
def test_a_folder_with_a_table_is_a_package_already(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_text("relative_path\n")
    with pytest.raises(UsageError, match="package already"):
        pack_folder(folder, tmp_path / "p.zip", FAN)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (Labels("teapot", "1"), "machine_type = 'teapot'"),
        (Labels("fan", " "), "section_id: The cell is empty"),
        (Labels("fan", "a\nb"), "section_id = "),
        (Labels("fan", "1", recorded_at="yesterday"), "recorded_at = 'yesterday'"),
        (Labels("fan", "1", sensor="ear"), "sensor = 'ear'"),
    ],
)
def test_labels_that_the_contract_refuses_are_refused_once_each(
    folder: Path, tmp_path: Path, labels: Labels, said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        pack_folder(folder, tmp_path / "p.zip", labels)
    assert str(caught.value).count(said) == 1
    assert not (tmp_path / "p.zip").exists()


@pytest.mark.parametrize("name", ["a\\b.wav", "c:d.wav", "x\n.wav"])
def test_names_that_no_package_may_hold_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match="Rename"):
        pack_folder(folder, tmp_path / "p.zip", FAN)


def test_two_files_that_would_get_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("é.wav", unicodedata.normalize("NFD", "é.wav")):
        (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match="one name"):
        pack_folder(folder, tmp_path / "p.zip", FAN)


@pytest.mark.parametrize("what", ["empty", "missing", "file"])
def test_a_folder_without_sounds_is_refused(tmp_path: Path, what: str) -> None:
    place = tmp_path / what
    if what == "empty":
        place.mkdir()
    if what == "file":
        place.write_text("")
    with pytest.raises(InputError):
        pack_folder(place, tmp_path / "p.zip", FAN)


def test_nothing_is_left_where_packing_fails(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("shutil.copyfileobj", fail)
    with pytest.raises(EnvironmentFault, match="room"):
        pack_folder(folder, tmp_path / "out" / "p.zip", FAN)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_lies_at_the_target_is_kept_unless_overwritten(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "p.zip"
    target.write_text("mine")
    with pytest.raises(AlpError, match="overwrite"):
        pack_folder(folder, target, FAN)
    assert target.read_text() == "mine"
    assert pack_folder(folder, target, FAN, overwrite=True).recordings == 4
