"""A customer's settings are read from YAML, all of their faults named at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.errors import UsageError
from schemas.settings import OnboardSettings
from schemas.settings_file import KEYS, read_settings

COMMANDS = Path(__file__).resolve().parents[2] / "docs" / "commands.md"


def read(tmp_path: Path, text: str) -> OnboardSettings:
    path = tmp_path / "acme.yaml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path)


def test_what_is_said_fills_the_settings_and_the_rest_keeps_its_default(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "kpi: {metric: miss_rate, target: 0.1}\nalarm: {clips_per_day: 288}\nrouting: {forbid: [c]}\nlanguage: ko\n",
    )
    assert (found.kpi.metric, found.kpi.target) == ("miss_rate", 0.1)
    assert (found.alarm.clips_per_day, found.alarm.false_alarms_per_day) == (288.0, 1.0)
    assert found.routing.forbid == ("c",)
    assert found.language == "ko"
    assert found.archive == OnboardSettings().archive


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alarm: {false_alarms_per_day: 1441}", r"1441 is more than the 1440 recordings judged a day"),
        (
            "alarm:\n  false_alarms_per_day: 1\n  false_alarms_per_day: 2\n",
            r"false_alarms_per_day stands in line 2 and again in line 3; keep one",
        ),
        ("alarm: {clips_per_day: -1}", r"alarm\.clips_per_day is -1: .*greater than 0\. The cadence"),
        ("alarm: {clips_per_day: yes}", r"alarm\.clips_per_day is true: .*valid number"),
        ("alarm: {clips_per_day: '288'}", r'alarm\.clips_per_day is "288": .*valid number'),
        ("alarm: {clips_per_day: .inf}", r"alarm\.clips_per_day, inf, is neither number"),
        ("alarm: {clip_per_day: 5}", r"alarm\.clip_per_day is no setting\. Did you mean alarm\.clips_per_day\?"),
        ("alarms: {clips_per_day: 5}", r"alarms is no setting\. Did you mean alarm\?"),
        ("archive: {max_entries: 5}", r"archive is no setting\. Settings there are: kpi, alarm"),
        ("kpi: {metric: auc, target: 95}", r"kpi is .*: a target of auc lies in 0-1, and 95 does not: 95 % is 0\.95"),
        ("kpi: {metric: recall}", r'kpi\.metric is "recall": .*\'auc\''),
        ("kpi: 0.9", r"kpi is 0\.9: "),
        ("alarm: {hold_off_s: 2026-01-01}", r"alarm\.hold_off_s, .* is neither number"),
        ("seed: &again [*again]", r"seed, .* holds itself, is neither number"),
        ("alarm: {hold_off_s: [[2026-01-01]]}", r"alarm\.hold_off_s\.0\.0, 2026-01-01, is neither number"),
        ("kpi: [auc]", r"kpi is \[\"auc\"\]: a table is wanted, `key: value`"),
        ("routing: {forbid: c}", r"routing\.forbid is \"c\": a list is wanted, each entry behind a hyphen"),
        (f"seed: [{'x, ' * 500}]", r"seed is \[.{0,220}…: "),
        ("kpi:\n\tmetric: auc", r"line 2, column 1: .*Indent with spaces: YAML takes no tab"),
        ("routing: {forbid: [x]}", r'routing\.forbid\.0 is "x"'),
        ("- kpi", r"settings by name are wanted"),
        ("kpi: !!python/object/apply:os.getcwd []", r"the settings cannot be read"),
        ("kpi: [", r"the settings cannot be read"),
    ],
)
def test_a_fault_names_file_key_value_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"acme\.yaml: .*" + said):
        read(tmp_path, text)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, "kpis: {}\nalarm: {clips_per_day: 0, hold_off_s: -1}\nseed: -1\n")
    assert len(str(refused.value).splitlines()) == 4


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.yaml: the settings cannot be read"):
        read_settings(tmp_path / "nothing.yaml")


def test_the_example_of_the_docs_is_read_and_every_key_is_named_there(tmp_path: Path) -> None:
    page = COMMANDS.read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    found = read(tmp_path, example)
    assert found.kpi != OnboardSettings().kpi
    assert found.alarm != OnboardSettings().alarm
    for key in KEYS:
        assert f"`{key}`" in page
