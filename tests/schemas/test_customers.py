"""A customer's file fills a customer, every fault named at once with file, line, key, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.customers import Customer, read_customer
from schemas.errors import UsageError
from schemas.settings import OnboardSettings
from tasks.keys import check_customer

ROOT = Path(__file__).resolve().parents[2]


def read(tmp_path: Path, text: str) -> Customer:
    path = tmp_path / "acme.yaml"
    path.write_text(text, encoding="utf-8")
    return read_customer(path)


def test_a_name_alone_is_a_customer_with_every_default(tmp_path: Path) -> None:
    found = read(tmp_path, "name: acme\n")
    assert found.settings() == OnboardSettings()
    assert found.inbox_folder == "inbox/acme"
    assert (found.time_zone, found.share_source, found.tags) == ("UTC", None, ("alp", "customer:acme"))
    assert found.schedule.onboard is not None
    assert found.schedule.monitor is not None


def test_what_is_said_reaches_the_settings(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "name: acme\nengine: b\nlanguage: ko\nalarm: {clips_per_day: 288}\nkpi: {metric: miss_rate, target: 0.1}\n"
        "machine_types:\n  compressor:\n  mixer: {en: mixer, ko: 믹서, sample_rate: 32000}\n",
    )
    settings = found.settings()
    assert (settings.engine, settings.language, settings.alarm.clips_per_day, settings.kpi.target) == (
        "b",
        "ko",
        288.0,
        0.1,
    )
    assert "mixer" in settings.known_machine_types
    assert (settings.sample_rate_of("mixer"), settings.sample_rate_of("compressor")) == (32_000, 16_000)
    assert found.tags == ("alp", "customer:acme", "machine:compressor", "machine:mixer")


def test_a_type_of_one_s_own_makes_other_settings_and_comes_back_from_json() -> None:
    own = Customer.model_validate({"name": "acme", "machine_types": {"mixer": {"en": "mixer"}}}).settings()
    assert own.digest() != OnboardSettings().digest()
    assert OnboardSettings.model_validate_json(own.model_dump_json(exclude_defaults=True)) == own


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "time_zone: Asia/Seul",
            r"line 2: time_zone is \"Asia/Seul\": there is no such time zone; did you mean Asia/S",
        ),
        ("time_zone: ../../etc/passwd", r"line 2: time_zone is .*there is no such time zone"),
        ('schedule: {monitor: "* * * *"}', r"line 2: schedule\.monitor is .*five fields.*When new recordings"),
        ("schedule: {onbord: null}", r"schedule\.onbord is no key\. Did you mean schedule\.onboard\?"),
        ("schedule: {onboard: */15 * * * *}", r"cannot be read .*A cron expression stands in quotes"),
        ("machine_types: {compresor: }", r"ALP knows no machine type 'compresor'; did you mean compressor\?"),
        ("machine_types: {mixer: }", r"ALP knows no machine type 'mixer'; name it: `mixer: {en: mixer}`"),
        ("machine_types: {mixer: {en: pump}}", r"'pump' and 'mixer' share the spelling 'pump'"),
        ("machine_types: {mixer: {ko: 믹서}}", r"line 2: machine_types\.mixer\.en is missing\. English name"),
        ("machine_types: {mixer: {en: mixer, colour: red}}", r"machine_types\.mixer\.colour is no key"),
        ("machine_types: {mixer: {en: mixer, id: fan}}", r"'mixer' calls itself 'fan'; leave its id out"),
        ("machine_types: {mixer: {en: mixer, form: {levels: 0}}}", r"machine_types is .*levels"),
        ("inbox: raw/acme", r"line 2: inbox is \"raw/acme\": it lies below inbox/"),
        ("inbox: inbox/../raw", r"inbox is .*it lies below inbox/"),
        ('share_source: "yes"', r"line 2: share_source is \"yes\": .*valid boolean.*true or false"),
        ("alarm: {clips_per_day: yes}", r"line 2: alarm\.clips_per_day is true: .*valid number\. The cadence"),
        (
            "alarm:\n  hold_off_s: 1\n  clip_per_day: 5",
            r"line 4: alarm\.clip_per_day is no key\. Did you mean alarm\.cl",
        ),
        ("kpi: {metric: auc, target: 95}", r"line 2: kpi is .*95 % is 0\.95"),
        ("retention: {recordings_days: 0}", r"retention\.recordings_days is 0: .*Days after which"),
        ("contacts:\n  - {name: Kim}\n  - {email: kim}", r"line 4: contacts\.1\.name is missing\. Who it is"),
        ("contacts:\n  - {name: Kim, email: kim}", r"line 3: contacts\.0\.email is \"kim\""),
        ("archive: {max_entries: 5}", r"line 2: archive is no key\. Keys there are: name, inbox"),
        ("seed: 1\nseed: 2", r": seed stands in line 2 and again in line 3; keep one$"),
        ("time_zone: KST", r"did you mean Asia/Seoul\? IANA"),
        ("time_zone: 서울", r"did you mean Asia/Seoul\?"),
        ("time_zone: asia/seoul", r"did you mean Asia/Seoul\? IANA"),
        ("time_zone: GMT+9", r"there is no such time zone; name a place\. .*Asia/Seoul"),
        ("time_zone: localtime", r"there is no such time zone"),
        ("time_zone: posix/Asia/Seoul", r"there is no such time zone"),
        ("machine_types: [compressor, fan]", r"each type is a key of its own, with a colon behind it.*`compressor:`"),
        ("machine_types: {압축기: }", r"by another name; did you mean `compressor:`\?"),
        ("machine_types: {Compressor: }", r"did you mean `compressor:`\?"),
        ("machine_types: {믹서: {en: mixer}}", r"a name in the store.*write `mixer: {en: mixer, ko: 믹서}`"),
        ("machine_types: {믹서: }", r"name it: `mixer: {en: mixer, ko: 믹서}`"),
        ("machine_types: {compressor: yes}", r"behind compressor stands True; leave it empty where ALP knows the type"),
        ('schedule: {onboard: "@daily"}', r"write '0 0 \* \* \*'"),
        ("schedule:\n\tonboard: null", r"line 3, column 1: .*Indent with spaces"),
        ("contacts:\n  - {name: 2026-01-01}", r"line 3: contacts\.0\.name, 2026-01-01, is neither number"),
        ("seed: 2026-01-01", r"line 2: seed, .* is neither number"),
    ],
)
def test_a_fault_names_file_line_key_value_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"(?s)acme\.yaml.*" + said):
        read(tmp_path, f"name: acme\n{text}\n")


def test_a_file_of_another_encoding_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "acme.yaml"
    text = "name: acme\nmachine_types: {mixer: {en: mixer, ko: 믹서}}\n"
    path.write_bytes(text.encode("cp949"))
    with pytest.raises(UsageError, match=r"it is not in UTF-8.*Save it as UTF-8"):
        read_customer(path)
    path.write_bytes(text.encode("utf-8-sig"))
    assert read_customer(path).name == "acme", "as Windows writes UTF-8"


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, "name: acme\ntime_zone: Mars\nseed: -1\nalarm: {clips_per_day: 0}\nalarms: {}\n")
    assert len(str(refused.value).splitlines()) == 4


@pytest.mark.parametrize("text", ["seed: 1", "name: 7", "name: Acme Ltd", "name: other", "- acme", ""])
def test_a_file_is_of_the_customer_that_it_is_named_for(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"acme\.yaml"):
        read(tmp_path, text)


@pytest.mark.parametrize("name", ["acme", "acme-2", "a" * 48, "a" * 49, "Acme", "acme_2", "-acme", "acme--2", ""])
def test_a_customer_may_be_called_what_a_key_of_the_store_may_be(name: str) -> None:
    def taken(check: object) -> bool:
        try:
            check(name)  # type: ignore[operator]
        except (UsageError, ValueError):
            return False
        return True

    assert taken(check_customer) == taken(lambda name: Customer(name=name))


def test_the_example_says_every_key_that_there_is() -> None:
    import yaml

    path = ROOT / "deployments" / "examples" / "acme.yaml"
    found = read_customer(path)
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) == set(Customer.model_fields)
    assert found.settings().known_machine_types["mixer"].ko == "믹서"


def test_every_key_is_documented() -> None:
    page = (ROOT / "docs" / "customers.md").read_text(encoding="utf-8")
    for key in Customer.model_fields:
        assert f"`{key}`" in page
