"""`alp customer`, and what `alp check`, `alp onboard` and `alp library` take from a customer's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import deployments.cli
from engines.toy.plan import ToyPlan
from schemas.errors import StoreError, UsageError
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.customers import load_customers, require_customer_file
from tasks.inbox_log import InboxLog
from tasks.sharing import consent
from tasks.store import FolderStore
from tasks.toy import write_toy_package


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where customers' files lie, with a store beside it and no Prefect server."""
    monkeypatch.setenv("ALP_CUSTOMERS", str(tmp_path / "customers"))
    monkeypatch.setenv("ALP_STORE", (tmp_path / "store").as_uri())
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return tmp_path / "customers"


def alp(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(deployments.cli.app, list(arguments), catch_exceptions=False, **options)


def said(*arguments: str) -> Any:
    done = alp(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_customer_is_written_listed_and_shown(folder: Path) -> None:
    options = (
        "-m",
        "팬",
        "-m",
        "Pump",
        "-m",
        "fan",
        "--onboard",
        "0 6 * * *",
        "--time-zone",
        "Asia/Seoul",
        "--lang",
        "ko",
    )
    written = said("customer", "add", "acme", *options, "--share-source", "--contact", "kim@acme.example")
    assert written == {"customer": "acme", "file": str(folder / "acme.yaml")}
    found = require_customer_file("acme")
    assert (found.schedule.onboard, found.time_zone, found.language) == ("0 6 * * *", "Asia/Seoul", "ko")
    assert (list(found.machine_types), found.share_source) == (["fan", "pump"], True)
    assert found.contacts[0].email == "kim@acme.example"

    assert [each["name"] for each in said("customer", "list")["customers"]] == ["acme"]
    assert "acme: onboard 0 6 * * *, monitor */5 * * * * (Asia/Seoul); fan, pump" in alp("customer", "list").output
    assert said("customer", "show", "acme")["inbox"] == "inbox/acme"
    assert "clips_per_day: 1440" in alp("customer", "show", "acme").output, "defaults are shown too"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--time-zone", "Mars"), r"--time-zone: time_zone is \"Mars\""),
        (("--onboard", "soon"), r"--onboard: schedule\.onboard is \"soon\""),
        (("-m", "robot"), r"--machine-type: .*no machine type 'robot'"),
        (("--contact", "kim"), r"--contact: contacts\.0\.email"),
    ],
)
def test_a_faulty_option_is_named_and_nothing_is_written(folder: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        alp("customer", "add", "acme", *options)
    with pytest.raises(UsageError, match="NAME: name is"):
        alp("customer", "add", "Acme")
    assert not folder.exists()


def test_a_customer_is_removed_also_where_there_is_no_server(folder: Path) -> None:
    alp("customer", "add", "acme")
    done = alp("customer", "remove", "acme")
    assert "No Prefect server is configured" in done.output
    assert "--purge deletes that as well" in done.output
    assert load_customers() == {}


def test_a_purge_is_never_done_unasked(folder: Path) -> None:
    alp("customer", "add", "acme")
    for more in ((), ("--json",)):
        with pytest.raises(UsageError, match="say --yes"):
            alp("customer", "remove", "acme", "--purge", *more)
    assert (folder / "acme.yaml").is_file()


def test_a_purge_says_what_it_deleted_the_inbox_of_the_file_included(folder: Path, tmp_path: Path) -> None:
    alp("customer", "add", "acme")
    with (folder / "acme.yaml").open("a", encoding="utf-8") as file:
        file.write("inbox: inbox/drop\n")
    store = FolderStore(tmp_path / "store")
    for key in ("inbox/drop/1.zip", "raw/acme/1.zip", "raw/acme-2/1.zip", "library/fan/acme-0123456789abcdef.parquet"):
        store.put(key, b"sent")
    removed = said("customer", "remove", "acme", "--purge", "--yes")
    assert removed["objects"] == {"inbox/drop/": 1, "raw/acme/": 1}
    assert removed["library"] == ["library/fan/acme-0123456789abcdef.parquet"]
    assert list(store.list_keys()) == ["raw/acme-2/1.zip"]
    assert not (folder / "acme.yaml").exists()


def test_a_purge_says_how_to_go_on_before_it_deletes_anything(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alp("customer", "add", "acme")
    store = FolderStore(tmp_path / "store")
    store.put("raw/acme/1.zip", b"sent")

    def cut(*_: Any, **__: Any) -> None:
        raise StoreError("the disk is away")

    with monkeypatch.context() as patch:
        patch.setattr("deployments.customer_removal.erase_own", cut)
        done = CliRunner().invoke(deployments.cli.app, ["customer", "remove", "acme", "--purge", "--yes"])
    assert "cut off, `alp customer remove acme --purge` goes on with it" in done.stderr
    assert load_customers() == {}, "so that `alp deploy` does not register it again"
    assert said("customer", "remove", "acme", "--purge", "--yes")["objects"] == {"raw/acme/": 1}
    assert list(store.list_keys()) == []


def looked_into(store: FolderStore, inbox: str) -> None:
    """What a look leaves of the folder that it looked into."""
    store.put_model(keys.inbox_log("acme"), InboxLog(inboxes=[inbox]))


def test_a_purge_finds_an_inbox_elsewhere_though_the_file_is_gone(folder: Path, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.put("inbox/drop/1.zip", b"sent")
    looked_into(store, "inbox/drop")
    assert said("customer", "remove", "acme", "--purge", "--yes")["objects"]["inbox/drop/"] == 1
    assert list(store.list_keys()) == []


@pytest.mark.parametrize("inbox", ["inbox/drop", "inbox/drop/here", "inbox/acme"])
def test_a_purge_leaves_an_inbox_that_is_another_customer_s_by_now(folder: Path, tmp_path: Path, inbox: str) -> None:
    store = FolderStore(tmp_path / "store")
    for key in ("inbox/drop/1.zip", "inbox/acme/1.zip"):
        store.put(key, b"sent")
    looked_into(store, "inbox/drop")
    alp("customer", "add", "zenith")
    with (folder / "zenith.yaml").open("a", encoding="utf-8") as file:
        file.write(f"inbox: {inbox}\nseed: -1\n")
    alp("customer", "remove", "acme", "--purge", "--yes")
    assert list(store.list_keys()) == ["inbox/acme/1.zip" if inbox == "inbox/acme" else "inbox/drop/1.zip"]


@pytest.mark.parametrize("name", ["../acme", "acme/../zenith", "/etc", "Acme", "acme ", "", "."])
def test_a_name_that_leads_elsewhere_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    FolderStore(tmp_path / "store").put("raw/zenith/1.zip", b"sent")
    for arguments in (("remove", name), ("remove", name, "--purge", "--yes"), ("show", name), ("add", name)):
        with pytest.raises(UsageError, match="name"):
            alp("customer", *arguments)
    assert [path.name for path in (tmp_path / "store").rglob("*.zip")] == ["1.zip"]


@pytest.fixture
def onboarded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[OnboardSettings]:
    """Settings by which `alp onboard` would onboard."""
    asked: list[OnboardSettings] = []

    def onboard(source: str, customer: str, store: Any, settings: OnboardSettings, **_: Any) -> int:
        asked.append(settings)
        return 0

    monkeypatch.setattr(deployments.cli, "_onboard", onboard)
    folder.mkdir()
    (folder / "acme.yaml").write_text(
        "name: acme\nengine: a\nlanguage: ko\nshare_source: true\nalarm: {clips_per_day: 288}\n"
        "machine_types: {mixer: {en: mixer, ko: 믹서}}\n",
        encoding="utf-8",
    )
    return asked


def test_a_known_customer_is_onboarded_by_its_file(onboarded: list[OnboardSettings], tmp_path: Path) -> None:
    alp("onboard", "p.zip", "--customer", "acme")
    assert (onboarded[0].engine, onboarded[0].language, onboarded[0].alarm.clips_per_day) == ("a", "ko", 288)
    assert "mixer" in onboarded[0].known_machine_types
    assert consent(FolderStore(tmp_path / "store"), "acme")

    alp("onboard", "p.zip", "--customer", "acme", "--lang", "en", "--engine", "auto", "--keep-source")
    assert (onboarded[1].engine, onboarded[1].language, onboarded[1].alarm.clips_per_day) == ("auto", "en", 288)
    assert not consent(FolderStore(tmp_path / "store"), "acme"), "an option counts more than the file"

    alp("onboard", "p.zip", "--customer", "stranger")
    assert onboarded[2] == OnboardSettings()


def test_a_settings_file_goes_before_the_customer_s_own_but_for_machine_types(
    onboarded: list[OnboardSettings], tmp_path: Path
) -> None:
    (tmp_path / "other.yaml").write_text("engine: b\n", encoding="utf-8")
    alp("onboard", "p.zip", "--customer", "acme", "--settings", str(tmp_path / "other.yaml"))
    assert (onboarded[0].engine, onboarded[0].language) == ("b", "en")
    assert "mixer" in onboarded[0].known_machine_types


def test_a_dry_run_says_nothing_of_consent(onboarded: list[OnboardSettings], tmp_path: Path) -> None:
    alp("onboard", "p.zip", "--customer", "acme", "--dry-run")
    assert not consent(FolderStore(tmp_path / "store"), "acme")


def test_check_knows_the_customer_s_own_machine_types(onboarded: list[OnboardSettings], tmp_path: Path) -> None:
    package = tmp_path / "package"
    write_toy_package(package, ToyPlan(machine_types=("fan",), scale=0.001))
    table = package / "metadata.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",fan,", ",믹서,"), encoding="utf-8")
    assert alp("check", str(package), "--json").exit_code == 3
    done = alp("check", str(package), "--customer", "acme", "--json")
    assert done.exit_code == 0, done.output
    assert {asset["machine_type"] for asset in json.loads(done.stdout)["assets"]} == {"mixer"}
    assert "믹서 00" in alp("check", str(package), "--customer", "acme", "--lang", "ko").output
    with pytest.raises(UsageError, match="no such file describes customer acmi; did you mean acme"):
        alp("check", str(package), "--customer", "acmi")


def test_withdrawing_consent_names_the_file_that_says_otherwise(
    onboarded: list[OnboardSettings], tmp_path: Path, folder: Path
) -> None:
    FolderStore(tmp_path / "store").put("raw/acme/1.zip", b"sent")
    assert f"{folder / 'acme.yaml'} still says share_source: true" in alp("library", "withdraw", "acme").output
    assert "still says" not in alp("library", "share", "acme").output
