"""Nothing that the commands of the door say stays English where Korean is asked for."""

from __future__ import annotations

import ast
import errno
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import errors
from schemas.errors import AlpError
from schemas.reasons import REASONS, SYSTEM_REASONS, reason, system_reason
from schemas.rules import report
from schemas.settings import QaLimits
from tasks.report.words import Words, _load, fill, recover_facts
from tasks.s3_errors import REMEDIES as S3_REMEDIES
from tests.korean import english_in

ROOT = Path(__file__).resolve().parents[2]
KOREAN = Words("ko")
RAISING = (
    *("schemas/machine_types.py", "tasks/packages.py", "tasks/packing.py", "tasks/new_files.py", "tasks/intake.py"),
    *("tasks/store.py", "tasks/keys.py", "tasks/forms/content.py", "tasks/forms/form_file.py"),
    *("tasks/object_store.py", "tasks/folder_store.py", "tasks/s3_address.py", "tasks/s3_errors.py"),
    *("tasks/s3_bucket.py", "tasks/s3_store.py", "tasks/s3_lease.py", "tasks/s3_erasing.py"),
    *("deployments/form_commands.py", "deployments/onboarding.py", "deployments/cli.py"),
)
"""Whose errors a plant can meet with `alp form`, `pack`, `check` and `onboard`."""
WRITTEN_BY_PROBLEMS = ("problem", "problems", "told")
"""Errors whose text is that of their problems, which the terminal tells one by one."""


def facts_of(template: str) -> dict[str, str]:
    return {name: f"«{name}»" for _, name, _, _ in string.Formatter().parse(template) if name}


# --- reasons ------------------------------------------------------------------------------------------------------


def test_every_reason_stands_in_both_languages() -> None:
    assert set(_load()["reasons"]) == set(REASONS)


@pytest.mark.parametrize("key", REASONS)
def test_a_reason_says_its_facts_in_korean(key: str) -> None:
    facts = facts_of(REASONS[key])
    korean = fill(_load()["reasons"][key], facts)

    assert all(fact in korean for fact in facts.values())
    assert english_in(korean, *facts.values()) == []
    assert KOREAN.message(report("clip.undecodable", why=reason(key, **facts))).text == (
        f"파일을 소리로 읽을 수 없습니다: {korean}."
    )


@pytest.mark.parametrize("key", REASONS)
def test_the_text_of_a_reason_tells_its_key(key: str) -> None:
    text = reason(key, **facts_of(REASONS[key]))
    assert [other for other, template in REASONS.items() if recover_facts(template, text) is not None] == [key]


@pytest.mark.parametrize("code", [*SYSTEM_REASONS, errno.ELOOP])
def test_what_the_system_says_is_korean_too(code: int) -> None:
    why = system_reason(OSError(code, "whatever it says"))
    said = KOREAN.translate(f"/a.zip: the file cannot be read ({why}). Check its permissions.")
    assert english_in(said.text, "/a.zip") == []


def test_a_system_s_own_english_within_a_sentence_is_korean_too() -> None:
    said = KOREAN.translate("/store/a cannot be read: Permission denied")
    assert said.text == "/store/a을(를) 읽을 수 없습니다(권한 없음)."


# --- errors and progress ------------------------------------------------------------------------------------------


def raised() -> Iterator[tuple[str, str]]:
    """Place and template of every sentence that these modules raise an error with."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, AlpError)}
    for path in RAISING:
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds and node.args:
                template = template_of(node.args[0])
                if template is not None:
                    yield f"{path}:{node.lineno}", template


def template_of(node: ast.expr) -> str | None:
    """A sentence with «facts», None where problems write it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [
            str(part.value) if isinstance(part, ast.Constant) else f"«{ast.unparse(part)}»" for part in node.values
        ]
        told = "".join(parts)
        return None if any(f"{name}.message" in told for name in WRITTEN_BY_PROBLEMS) else told
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    assert names & set(WRITTEN_BY_PROBLEMS) or raised_again(node), ast.unparse(node)
    return None


def raised_again(node: ast.expr) -> bool:
    """Whether the sentence is another error's, `str(error)`, with no more than a fact in it replaced."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "replace":
        node = node.func.value
    return ast.unparse(node) == "str(error)"


@pytest.mark.parametrize("code", S3_REMEDIES)
def test_what_an_s3_server_refuses_is_told_in_korean_to_its_end(code: str) -> None:
    why, remedy = S3_REMEDIES[code]
    url = "s3://bucket?endpoint=http://host:9000"
    said = KOREAN.translate(
        f"writing raw/a.zip failed at http://host:9000, bucket bucket: {why}; {remedy.format(url=url)}"
    )
    allowed = (url, "http://host:9000", "bucket", "region", "store init", "NTP")
    credentials = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    assert (said.language, english_in(said.text, *allowed, *credentials)) == ("ko", [])


@pytest.mark.parametrize(("place", "sentence"), list(raised()))
def test_every_error_of_the_door_is_told_in_korean(place: str, sentence: str) -> None:
    said = KOREAN.translate(sentence)
    assert said.language == "ko", place
    assert re.search("[가-힣]", said.text)


def test_every_bar_of_progress_is_labelled_in_korean() -> None:
    called = re.compile(r"\btrack\(f?\"([^\"]+)\"")
    found = {text for path in ROOT.glob("[td]*s/**/*.py") for text in called.findall(path.read_text(encoding="utf-8"))}
    labels = {text.replace("{engine_phrase(engine)}", "engine C") for text in found if "175" not in text}
    assert len(labels) >= 6
    for label in [*labels, "Learning fan-00 by the ensemble"]:
        said = KOREAN.translate(label)
        assert said.language == "ko", label
        assert english_in(re.sub(r"\{.*?\}", "", said.text), "fan-00") == []


@pytest.mark.parametrize("rule", ["asset.normals", "asset.few_normals"])
def test_a_problem_of_a_machine_is_placed_at_the_machine(rule: str) -> None:
    problem = report(rule, limits=QaLimits(), asset="fan 00", measured=2, missing=1, recommended=10)
    assert Words("en").place(problem) == "fan 00"
    assert KOREAN.place(problem) == "팬 00"
