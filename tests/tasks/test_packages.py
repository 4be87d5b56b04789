"""Packages are read, never believed: hostile zips and folders, and ids that depend on contents alone."""

from __future__ import annotations

import os
import stat
import struct
import unicodedata
import zipfile
from pathlib import Path

import pytest

from schemas.errors import InputError, PackageError
from schemas.settings import ArchiveLimits
from tasks.packages import PackageArchive, open_package

FILES = {"metadata.csv": b"relative_path\naudio/a.wav\n", "audio/a.wav": b"one", "audio/b.wav": b"two"}


def write_zip(path: Path, files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def rules(archive: PackageArchive) -> list[str]:
    return [problem.rule for problem in archive.problems]


def patched(path: Path, old: bytes, new: bytes) -> Path:
    """Overwrite bytes of a finished zip, as zipfile itself refuses to write such a thing."""
    data = path.read_bytes()
    assert old in data
    assert len(old) == len(new)
    path.write_bytes(data.replace(old, new))
    return path


# --- what a package is --------------------------------------------------------------------------------------------


def test_zip_and_folder_of_the_same_files_have_the_same_names_and_id(tmp_path: Path) -> None:
    zipped = open_package(write_zip(tmp_path / "p.zip", FILES))
    folder = open_package(write_folder(tmp_path / "p", FILES))

    assert zipped.names == folder.names == tuple(sorted(FILES))
    assert zipped.package_id == folder.package_id
    assert len(zipped.package_id) == 16
    assert zipped.problems == folder.problems == ()


def test_the_folder_zipped_around_a_package_is_taken_off(tmp_path: Path) -> None:
    wrapped = {f"line 3/{name}": content for name, content in FILES.items()}
    archive = open_package(write_zip(tmp_path / "w.zip", wrapped))

    assert archive.names == tuple(sorted(FILES))
    assert archive.package_id == open_package(write_zip(tmp_path / "p.zip", FILES)).package_id


def test_a_package_of_audio_alone_keeps_its_audio_folder(tmp_path: Path) -> None:
    archive = open_package(write_zip(tmp_path / "p.zip", {"audio/a.wav": b"one"}))

    assert archive.names == ("audio/a.wav",)


def test_what_systems_leave_behind_is_ignored(tmp_path: Path) -> None:
    clutter = {"__MACOSX/audio/._a.wav": b"x", ".DS_Store": b"x", "audio/Thumbs.db": b"x", "audio/._b.wav": b"x"}
    archive = open_package(write_zip(tmp_path / "p.zip", {**FILES, **clutter}))

    assert archive.names == tuple(sorted(FILES))
    assert archive.problems == ()


@pytest.mark.parametrize("name", ["~$form.xlsx", "~$녹음목록.XLSX", ".~lock.form.xlsx#", "audio/.~lock.a.ods#"])
def test_the_lock_of_a_document_that_was_open_is_no_part_of_the_package(tmp_path: Path, name: str) -> None:
    locked = open_package(write_zip(tmp_path / "p.zip", FILES | {name: b"\x05user"}))
    assert locked.names == tuple(sorted(FILES))
    assert locked.package_id == open_package(write_folder(tmp_path / "p", FILES)).package_id


def test_a_recording_whose_name_begins_like_a_lock_is_read(tmp_path: Path) -> None:
    assert "audio/~$a.wav" in open_package(write_zip(tmp_path / "p.zip", FILES | {"audio/~$a.wav": b"x"})).names


def test_a_refused_file_within_the_folder_zipped_around_a_package_bears_the_table_s_name_for_it(tmp_path: Path) -> None:
    wrapped = write_zip(tmp_path / "p.zip", {f"plant/{name}": content for name, content in FILES.items()})
    with zipfile.ZipFile(wrapped, "a") as archive:
        link = zipfile.ZipInfo("plant/audio/3.wav")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "a.wav")
    with open_package(wrapped) as package:
        assert [(problem.rule, problem.file) for problem in package.problems] == [("archive.link", "audio/3.wav")]
        assert package.refused == {"audio/3.wav"}


def test_the_id_changes_with_a_name_a_content_and_a_refused_entry(tmp_path: Path) -> None:
    variants = [
        FILES,
        {**FILES, "audio/a.wav": b"other"},
        {**FILES, "audio/c.wav": b"two"},
        {**FILES, "../../etc/passwd": b"x"},
    ]
    ids = {open_package(write_zip(tmp_path / f"{i}.zip", v)).package_id for i, v in enumerate(variants)}

    assert len(ids) == len(variants)


def test_reading_gives_the_content_and_its_digest(tmp_path: Path) -> None:
    archive = open_package(write_zip(tmp_path / "p.zip", FILES))

    assert {name: archive.read(name) for name in archive.names} == FILES
    assert archive.digests["audio/a.wav"].startswith("7692c3ad3540bb80")  # printf one | sha256sum


def test_korean_names_are_read_from_every_kind_of_zip(tmp_path: Path) -> None:
    name = "audio/송풍기_01.wav"
    flagged = write_zip(tmp_path / "utf8.zip", {**FILES, name: b"x"})
    decomposed = write_zip(tmp_path / "mac.zip", {**FILES, unicodedata.normalize("NFD", name): b"x"})
    # Windows writes the bytes of CP949 and no flag; zipfile would write them so for a CP437 name.
    raw = name.encode("cp949")
    stand_in = "audio/" + "Z" * (len(raw) - len("audio/"))
    windows = patched(write_zip(tmp_path / "cp949.zip", {**FILES, stand_in: b"x"}), stand_in.encode(), raw)

    ids = set()
    for path in (flagged, decomposed, windows):
        archive = open_package(path)
        assert name in archive.names
        assert archive.read(name) == b"x"
        ids.add(archive.package_id)
    assert len(ids) == 1


def test_a_folder_becomes_the_same_zip_bytes_every_time(tmp_path: Path) -> None:
    archive = open_package(write_folder(tmp_path / "p", FILES))
    archive.write_zip(tmp_path / "one.zip")
    os.utime(tmp_path / "p" / "metadata.csv", (1, 1))
    open_package(tmp_path / "p").write_zip(tmp_path / "two.zip")

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert open_package(tmp_path / "one.zip").package_id == archive.package_id


def test_a_folder_as_a_zip_has_the_same_id_and_the_same_problems(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "p", {**FILES, "audio/A.WAV": b"x", "audio/CON": b"x", "audio/large.wav": b""})
    (folder / "audio" / "link.wav").symlink_to("/etc/hostname")
    (folder / "audio" / os.fsdecode(b"\xff.wav")).write_bytes(b"x")
    os.mkfifo(folder / "audio" / "pipe.wav")
    os.truncate(folder / "audio" / "large.wav", 2**33)

    archive = open_package(folder)
    archive.write_zip(tmp_path / "p.zip")
    zipped = open_package(tmp_path / "p.zip")

    assert len(archive.problems) == 6
    assert sorted(rules(zipped)) == sorted(rules(archive))
    assert zipped.names == archive.names
    assert zipped.package_id == archive.package_id
    assert (tmp_path / "p.zip").stat().st_size < 5000


# --- what is no package -------------------------------------------------------------------------------------------


def test_a_missing_path_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.zip: there is no such file"):
        open_package(tmp_path / "nothing.zip")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.zip").write_bytes(b"")

    with pytest.raises(InputError, match=r"p\.zip: The file is empty"):
        open_package(tmp_path / "p.zip")


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.zip").write_bytes(b"Rar!" + bytes(1000))

    with pytest.raises(InputError, match="is not a zip"):
        open_package(tmp_path / "p.zip")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_zip_is_refused_as_cut_off(tmp_path: Path, share: float) -> None:
    path = write_zip(tmp_path / "p.zip", {**FILES, "audio/c.wav": os.urandom(5000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(InputError, match="cut off or damaged"):
        open_package(path)


@pytest.mark.parametrize(
    ("content", "rule"),
    [(b"", "archive.empty"), (b"Rar!" + bytes(99), "archive.unreadable"), (b"PK\3\4" + bytes(99), "archive.cut_off")],
)
def test_what_cannot_be_opened_breaks_a_rule_too(tmp_path: Path, content: bytes, rule: str) -> None:
    (tmp_path / "p.zip").write_bytes(content)

    with pytest.raises(PackageError) as caught:
        open_package(tmp_path / "p.zip")
    assert [(problem.rule, problem.file) for problem in caught.value.problems] == [(rule, "p.zip")]


def test_entries_are_counted_before_objects_are_made_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "p.zip", FILES)
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_, **__: pytest.fail("an object was made"))

    with pytest.raises(PackageError) as caught:
        open_package(path, ArchiveLimits(max_entries=2))
    assert [problem.rule for problem in caught.value.problems] == ["archive.entries"]


def test_a_directory_larger_than_any_package_is_not_loaded(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", FILES)
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    # The end record promises a directory of 3 GB, and the file is (sparsely) long enough to hold it.
    struct.pack_into("<II", data, end + 12, 3_000_000_000, 0)
    with path.open("wb") as stream:
        stream.seek(3_000_000_000)
        stream.write(data[end:])

    with pytest.raises(InputError) as caught:
        open_package(path)
    assert "directory is larger" in str(caught.value.__cause__)


# --- unsafe entries are named and left out ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "absolute path"),
        ("../../etc/passwd", "parent folder"),
        ("audio/../../x.wav", "parent folder"),
        ("audio\\..\\x.wav", "backslash"),
        ("C:/windows/x.wav", "drive letter"),
        ("c:x.wav", "drive letter"),
        ("audio//x.wav", "empty part"),
        ("./audio/x.wav", "empty part"),
        ("audio/x\n.wav", "control character"),
        ("../", "parent folder"),
    ],
)
def test_names_that_leave_the_package_are_refused(tmp_path: Path, name: str, why: str) -> None:
    archive = open_package(write_zip(tmp_path / "p.zip", {**FILES, name: b"x"}))

    assert rules(archive) == ["archive.path"]
    assert why in archive.problems[0].message
    assert archive.names == tuple(sorted(FILES))


def test_a_name_with_nul_is_refused_and_not_cut_at_it(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {**FILES, "audio/xZ.wav": b"x"})
    archive = open_package(patched(path, b"audio/xZ.wav", b"audio/x\0.wav"))

    assert rules(archive) == ["archive.path"]
    assert archive.problems[0].file == "audio/x\\x00.wav"


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", FILES)
    info = zipfile.ZipInfo("audio/link.wav")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")

    assert rules(open_package(path)) == ["archive.link"]


def test_a_device_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", FILES)
    info = zipfile.ZipInfo("audio/device.wav")
    info.external_attr = (stat.S_IFCHR | 0o666) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, b"")

    assert rules(open_package(path)) == ["archive.kind"]


def test_links_and_pipes_in_a_folder_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "p", FILES)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.wav").write_bytes(b"x")
    (folder / "audio" / "link.wav").symlink_to(tmp_path / "outside" / "secret.wav")
    (folder / "audio" / "more").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "audio" / "pipe.wav")

    archive = open_package(folder)

    assert sorted((p.rule, p.file) for p in archive.problems) == [
        ("archive.kind", "audio/pipe.wav"),
        ("archive.link", "audio/link.wav"),
        ("archive.link", "audio/more"),
    ]
    assert archive.names == tuple(sorted(FILES))


def test_a_file_swapped_for_a_link_after_listing_is_not_followed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "p", FILES)
    archive = open_package(folder)
    (folder / "audio" / "a.wav").unlink()
    (folder / "audio" / "a.wav").symlink_to("/etc/hostname")

    with pytest.raises(PackageError, match="cannot be unpacked"):
        archive.read("audio/a.wav")


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", FILES)
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("audio/a.wav").header_offset
    data = bytearray(path.read_bytes())
    for at in (offset + 6, data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1) + 8):
        data[at] |= 1
    path.write_bytes(data)

    opened = open_package(path)
    assert rules(opened) == ["archive.encrypted"]
    assert opened.problems[0].file == "audio/a.wav"


def test_packing_methods_without_a_bound_on_their_output_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", FILES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("audio/c.wav", b"x" * 100, compress_type=zipfile.ZIP_LZMA)

    assert rules(open_package(path)) == ["archive.method"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names_are_refused_and_the_first_is_kept(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", FILES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("audio/a.wav", b"another")

    opened = open_package(path)
    assert rules(opened) == ["archive.duplicate"]
    assert opened.read("audio/a.wav") == b"one"


def test_names_that_collide_where_case_is_ignored_are_refused(tmp_path: Path) -> None:
    opened = open_package(write_zip(tmp_path / "p.zip", {**FILES, "audio/A.WAV": b"x"}))

    assert rules(opened) == ["archive.case"]
    assert "audio/a.wav" in opened.problems[0].message


@pytest.mark.parametrize("files", [{"audio/a.wav/x.wav": b"x"}, {"AUDIO/A.WAV/": b""}, {"audio/a.wav/more/x": b"x"}])
def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    opened = open_package(write_zip(tmp_path / "p.zip", {**FILES, **files}))

    assert [(problem.rule, problem.file) for problem in opened.problems] == [("archive.folder", "audio/a.wav")]
    assert "audio/a.wav" not in opened.names


def test_a_last_entry_that_reaches_into_the_directory_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", FILES, method=zipfile.ZIP_STORED)
    with zipfile.ZipFile(path) as archive:
        (*_, last) = archive.infolist()
        end = archive.start_dir
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 20, end)
    path.write_bytes(data)

    assert [(problem.rule, problem.file) for problem in open_package(path).problems] == [
        ("archive.overlap", last.filename)
    ]


def test_an_entry_that_holds_less_than_it_says_is_damaged(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {**FILES, "audio/c.wav": bytes(4321)})
    archive = open_package(patched(path, struct.pack("<I", 4321), struct.pack("<I", 9999)))

    with pytest.raises(PackageError, match="4321 of 9999 bytes"):
        archive.read("audio/c.wav")


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    """The overlapping bomb: several directory entries that all point at one file's bytes."""
    path = write_zip(tmp_path / "p.zip", {"audio/a.wav": bytes(100), "audio/b.wav": bytes(100)})
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 1)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)

    assert rules(open_package(path)) == ["archive.overlap", "archive.overlap"]


# --- bombs --------------------------------------------------------------------------------------------------------


def test_an_entry_that_packs_like_a_bomb_is_refused_unread(tmp_path: Path) -> None:
    limits = ArchiveLimits(ratio_from_bytes=2**20)
    path = write_zip(tmp_path / "p.zip", {**FILES, "audio/noise.wav": os.urandom(2**16), "audio/c.wav": bytes(2**21)})

    archive = open_package(path, limits)
    assert rules(archive) == ["archive.ratio"]
    assert "audio/c.wav" not in archive.names


def test_a_package_that_packs_like_a_bomb_as_a_whole_is_refused(tmp_path: Path) -> None:
    limits = ArchiveLimits(ratio_from_bytes=2**20)
    files = {f"audio/{i}.wav": bytes(2**19) for i in range(8)}

    with pytest.raises(PackageError, match="zip bomb"):
        open_package(write_zip(tmp_path / "p.zip", files), limits)


def test_a_short_silent_recording_is_no_bomb(tmp_path: Path) -> None:
    archive = open_package(write_zip(tmp_path / "p.zip", {**FILES, "audio/dead.wav": bytes(2**21)}))

    assert archive.problems == ()
    assert len(archive.read("audio/dead.wav")) == 2**21


def test_a_file_beyond_its_limit_is_refused(tmp_path: Path) -> None:
    archive = open_package(write_zip(tmp_path / "p.zip", FILES), ArchiveLimits(max_file_bytes=10))

    assert [(p.rule, p.file) for p in archive.problems] == [("archive.file_bytes", "metadata.csv")]


def test_a_package_beyond_the_total_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="more than 20 bytes"):
        open_package(write_zip(tmp_path / "p.zip", FILES), ArchiveLimits(max_total_bytes=20))


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="more than 2 files") as caught:
        open_package(write_zip(tmp_path / "p.zip", FILES), ArchiveLimits(max_entries=2))
    assert [problem.rule for problem in caught.value.problems] == ["archive.entries"]


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (ArchiveLimits(max_file_bytes=1000), "archive.file_bytes"),
        (ArchiveLimits(max_total_bytes=1000), "archive.total_bytes"),
        (ArchiveLimits(ratio_from_bytes=10), "archive.ratio"),
    ],
)
def test_bytes_are_counted_while_reading_not_believed(tmp_path: Path, limits: ArchiveLimits, rule: str) -> None:
    folder = write_folder(tmp_path / "p", FILES)
    archive = open_package(folder, limits)
    (folder / "audio" / "a.wav").write_bytes(bytes(5000))  # it grew after it was listed

    with pytest.raises(PackageError) as caught:
        archive.read("audio/a.wav")
    assert caught.value.problems[0].rule == rule
    assert [problem.rule for problem in archive.problems] == [rule]
    assert "audio/a.wav" not in archive.names


def test_a_lying_size_is_found_when_the_entry_is_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {**FILES, "audio/c.wav": bytes(4321)})
    archive = open_package(patched(path, struct.pack("<I", 4321), struct.pack("<I", 99)))

    with pytest.raises(PackageError):
        archive.read("audio/c.wav")
    assert rules(archive) == ["archive.damaged"]


def test_damaged_content_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", FILES, method=zipfile.ZIP_STORED)
    archive = open_package(patched(path, b"two", b"tow"))

    assert set(archive.digests) == {"metadata.csv", "audio/a.wav"}
    assert [(p.rule, p.file) for p in archive.problems] == [("archive.damaged", "audio/b.wav")]


def test_reading_again_does_not_count_twice(tmp_path: Path) -> None:
    total = sum(map(len, FILES.values()))
    archive = open_package(write_zip(tmp_path / "p.zip", FILES), ArchiveLimits(max_total_bytes=total))

    for _ in range(3):
        assert archive.read("audio/a.wav") == b"one"
        assert len(archive.digests) == 3
