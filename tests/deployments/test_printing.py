"""What the terminal says of problems, in the language asked for."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from deployments.onboarding import Outcome
from deployments.printing import print_check, print_error, print_outcome, print_problems
from deployments.progress_bars import progress_bars
from schemas.errors import InputError, LabelsError, UsageError
from schemas.problems import Problem, shorten
from schemas.references import AssetResult, OnboardResult, Package, QualityReport, Run, Stage
from schemas.rules import report
from schemas.settings import Language, OnboardSettings, QaLimits
from tasks.packages import open_package
from tasks.packing import Labels, pack_folder
from tasks.progress import track
from tasks.report.conclusion import Conclusion, conclusion_key
from tasks.report.words import Words
from tasks.runs import Manifest
from tasks.store import FolderStore
from tests.korean import english_in


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off", None])
def test_what_cannot_be_opened_is_told_in_korean(tmp_path: Path, console: Console, content: bytes | None) -> None:
    path = tmp_path / "3월; 울산.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        open_package(path)
    print_error(console, refused.value, Words("ko"))
    said = printed(console)
    assert path.name in said
    assert "주십시오." in said
    assert "file" not in said.replace(str(path), "")


def missing(row: int) -> Problem:
    return report("cell.missing", file="metadata.csv", row=row, column="section_id")


def test_a_fault_of_every_row_is_printed_with_a_count_and_its_rows(console: Console) -> None:
    print_problems(console, shorten(missing(row) for row in range(2, 50_002)), Words("ko"))
    lines = printed(console).splitlines()
    assert len(lines) == 42
    assert lines[0] == "고쳐야 함 metadata.csv, 2행, section_id 열: 칸이 비어 있습니다."
    assert lines[-2] == "    … 같은 문제가 49,960곳 더 있습니다. 해당 행: 42–50001."


def test_text_of_a_package_acts_on_no_terminal(console: Console) -> None:
    hostile = report("cell.missing", file="[bold]a\x1b[2J.wav", column="[link=x]", value="[red]")
    print_problems(console, [hostile], Words("en"))
    assert "[bold]a\\x1b[2J.wav, column [link=x] = '[red]'" in printed(console)


@pytest.mark.parametrize(
    ("problem", "english", "korean"),
    [
        (
            report("asset.few_normals", limits=QaLimits(), asset="fan 00", measured=3, missing=7),
            "note fan 00 has 3 good normal recordings of its own; 10 are recommended.",
            "참고 팬 00의 사용 가능한 정상 녹음이 3개입니다. 10개를 권장합니다.",
        ),
        (
            report("clip.short", limits=QaLimits(), file="audio/a.wav", row=7, measured=0.25),
            "held back audio/a.wav, row 7 of the table (0.25 s): The clip lasts 0.25 s, less than 1 s.",
            "제외 audio/a.wav, 목록의 7행 (0.25 s): 녹음 길이가 0.25초로 1초보다 짧습니다.",
        ),
        (
            report("cell.number", file="metadata.csv", row=7, column="snr_db", value="12 dB"),
            "must be mended metadata.csv, row 7, column snr_db = '12 dB': The value is not a finite number.",
            "고쳐야 함 metadata.csv, 7행, snr_db 열 = '12 dB': 숫자가 아닌 값입니다.",
        ),
    ],
)
def test_a_problem_reads_naturally_wherever_it_is(
    console: Console, problem: Problem, english: str, korean: str
) -> None:
    print_problems(console, [problem], Words("en"))
    print_problems(console, [problem], Words("ko"))
    lines = printed(console).splitlines()
    assert (lines[0], lines[2]) == (english, korean)


def refused(**counts: int) -> QualityReport:
    """A report of bad input."""
    none = dict.fromkeys(("clips", "ok", "warned", "quarantined"), 0)
    keys = {"package_id": "0", "quality_key": "", "metadata_key": None}
    return QualityReport(
        verdict="rejected", bad_input=True, synthetic=False, assets=(), problems=(), **keys, **{**none, **counts}
    )


def test_a_backslash_of_a_cell_is_shown_once(console: Console) -> None:
    place = {"file": "a.csv", "row": 2, "column": "relative_path"}
    print_problems(console, [report("row.path", **place, why="backslash", value="audio\\a.wav")], Words("en"))
    assert "= 'audio\\a.wav': " in printed(console)


@pytest.mark.parametrize("language", get_args(Language))
def test_a_package_s_own_name_acts_on_no_terminal(tmp_path: Path, console: Console, language: Language) -> None:
    name = "\x1b]0;pwn\x07\x1b[31m[red]\u202e"
    with pytest.raises(InputError) as missing_package:
        open_package(tmp_path / name)
    print_error(console, missing_package.value, Words(language))
    print_check(console, name, refused(), Words(language))
    told = printed(console)
    assert told.count("\\x1b]0;pwn\\x07\\x1b[31m[red]\\u202e") == 2
    assert "\x1b" not in told


def test_table_faults_are_counted_apart_from_bad_recordings(console: Console) -> None:
    print_check(console, "a.zip", refused(clips=11, ok=1, warned=1, broken=9), Words("ko"))
    assert "녹음 11개: 양호 1개, 주의 1개, 제외 0개, 목록·패키지 오류 9개" in printed(console)


def test_silence_is_called_so_and_not_minus_infinity(console: Console) -> None:
    dead = report("clip.dead", limits=QaLimits(), file="audio/a.wav", measured_db=-math.inf, limit_db=-100)
    print_problems(console, [dead], Words("en"))
    print_problems(console, [dead], Words("ko"))
    told = printed(console)
    assert "as good as silent (digital silence, below -100 dBFS)" in told
    assert "완전한 무음" in told
    assert "inf" not in told


def test_what_a_command_says_of_recordings_is_told_by_option_in_korean(tmp_path: Path, console: Console) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.wav").write_bytes(b"x")
    with pytest.raises(LabelsError) as refused:
        pack_folder(tmp_path / "a", tmp_path / "a.zip", Labels("주전자", "1", recorded_at="어제"))
    assert refused.value.exit_code == 2
    print_error(console, refused.value, Words("ko"))
    said = printed(console)
    assert "machine_type 열 = '주전자': 등록되지 않은 설비 종류입니다." in said
    assert "recorded_at 열 = '어제'" in said
    assert english_in(said) == []
    assert [problem.row for problem in refused.value.problems] == [None, None]


@pytest.mark.parametrize(("language", "label"), [("en", "Judging recordings"), ("ko", "녹음 검사")])
def test_bars_speak_the_language_asked_for(language: Language, label: str) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with progress_bars(console, language), track("Judging recordings", total=3) as advance:
        advance(3)
    assert label in printed(console)


def test_stages_that_served_again_are_named_in_korean() -> None:
    assert [Words("ko").stage(stage) for stage in get_args(Stage)][:2] == ["접수", "품질 검사"]


def test_an_error_without_problems_is_its_sentence(console: Console) -> None:
    print_error(console, UsageError("no such thing"), Words("ko"))
    assert printed(console) == "오류: no such thing\n"


# --- how an onboarding ended ----------------------------------------------------------------------------------------


def onboarded(folder: Path, *, synthetic: bool = False, dry_run: bool = False, **concluded: object) -> Outcome:
    """An onboarding of one machine whose page was written, with what it concludes."""
    report = "runs/acme/0123456789abcdef/fan-00/report.html"
    store = FolderStore(folder)
    found: dict[str, object] = {
        "verdict": "synthetic" if synthetic else "detect.unproven.estimated",
        "tone": "caution",
        "ringing": "synthetic" if synthetic else "go",
        "sureness": "modelled",
        "auc": 0.92,
        "auc_interval": (0.777, 0.986),
        "normals": 50,
        "faults": 49,
    }
    store.put_model(conclusion_key(report), Conclusion.model_validate(found | concluded))
    figures = dict.fromkeys(("pauc", "auc_source", "auc_target", "threshold", "certified"))
    asset = AssetResult(
        machine_type="fan", section_id="00", engine="a", encoder="lite0", n_target=12, n_source=0, n_test=99, auc=0.92,
        alarms_per_day=25.0, clips_per_day=1440.0, report=None if dry_run else report, **figures,
    )  # fmt: skip
    run = Run.model_construct(store=store.url, customer="acme", run_id="0123456789abcdef", settings=OnboardSettings())
    manifest = Manifest.model_construct(
        run=run,
        package=Package(customer="acme", package_id="0", name="a.zip", raw_key="raw", files=1, bytes=1),
        quality=refused().model_copy(update={"verdict": "accepted", "synthetic": synthetic}),
        result=OnboardResult(
            customer="acme", package="0", run_id=run.run_id, verdict="accepted", quarantined=(), reused=(),
            assets=(asset,),
        ),
    )  # fmt: skip
    return Outcome(manifest=manifest, store=store, dry_run=dry_run)


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("verdict", ["blind", "detect.met.certified", "measured.unproven.estimated"])
def test_the_terminal_says_the_verdict_in_the_words_of_the_page(
    tmp_path: Path, console: Console, language: Language, verdict: str
) -> None:
    say = Words(language)
    print_outcome(console, onboarded(tmp_path, verdict=verdict, ringing="blind"), say)
    told = printed(console)
    assert f"{say.machine('fan', '00')}: {say(f'headline.{verdict}')}" in told
    assert say("ringing.blind") in told


def test_no_auc_is_printed_without_what_it_rests_on(tmp_path: Path, console: Console) -> None:
    print_outcome(console, onboarded(tmp_path), Words("en"))
    told = printed(console)
    assert told.count("0.92") == 1
    assert "AUC 0.920 (95 % interval 0.777 to 0.986), on 50 normal and 49 faulty labelled recordings." in told
    assert "False alarms a day: 25 (modelled, at 1,440 recordings a day)." in told


def test_the_target_is_named_where_the_verdict_stands(tmp_path: Path, console: Console) -> None:
    target = {
        "kpi": {"metric": "miss_rate", "target": 0.1}, "default": False, "status": "unproven",
        "value": 0.145, "interval": (0.087, 0.222), "bound": None, "falls_short": True,
    }  # fmt: skip
    outcome = onboarded(tmp_path, verdict="measured.short.estimated", target=target)
    print_outcome(console, outcome, Words("en"))
    told = printed(console)
    assert "falls short of the target" in told
    assert "at most 0.1 of faults missed. Measured 0.145 (95 % interval 0.087 to 0.222). AUC 0.920" in told
    assert outcome.document()["assets"][0]["concluded"]["target"]["value"] == 0.145


def test_an_auc_of_synthetic_sound_is_called_no_evidence(tmp_path: Path, console: Console) -> None:
    print_outcome(console, onboarded(tmp_path, synthetic=True), Words("en"))
    told = printed(console)
    assert "Synthetic recordings: this proves the path, not the performance." in told
    assert "50 normal and 49 faulty synthetic recordings: no evidence of a real machine." in told
    assert "When it rings" not in told


def test_without_labels_the_terminal_says_why_there_is_no_auc(tmp_path: Path, console: Console) -> None:
    print_outcome(console, onboarded(tmp_path, auc=None, auc_interval=None, faults=0), Words("ko"))
    assert "AUC는 측정하지 못함" in printed(console)


def test_a_dry_run_concludes_nothing(tmp_path: Path, console: Console) -> None:
    outcome = onboarded(tmp_path, dry_run=True)
    print_outcome(console, outcome, Words("en"))
    assert "AUC" not in printed(console)
    assert outcome.document()["assets"][0]["concluded"] is None


def test_json_holds_the_conclusion(tmp_path: Path) -> None:
    concluded = onboarded(tmp_path, verdict="blind", tone="bad").document()["assets"][0]["concluded"]
    assert (concluded["verdict"], concluded["tone"], concluded["normals"]) == ("blind", "bad", 50)
