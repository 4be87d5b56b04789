"""The one rule table: every check on a package, what it says when it fails, and the remedy.

The archive reader, the table contract and the signal checks all take severity and words from here, so that a
report, a command line and a document cannot disagree. A rule with a `limit` names the field of `ArchiveLimits`
or `QaLimits` that holds the number; the table itself holds none.

`what` and `remedy` are `str.format` templates over the facts that the check measured, plus `limit`. Text from a
package enters only as a fact, never as a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field

from schemas.problems import Problem, Severity
from schemas.settings import ArchiveLimits, QaLimits

MAX_VALUE_CHARS = 200

ERROR, REJECT, WARN = Severity.ERROR, Severity.REJECT, Severity.WARN


class Rule(BaseModel):
    """One check: when it fails, `what` says so and `remedy` how to mend it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="Stable, `<part of the package>.<what is wrong>`.")
    severity: Severity
    what: str = Field(description="Template of the sentence that says what is wrong.")
    remedy: str = Field(description="Template of the sentence that says what to do.")
    limit: str | None = Field(default=None, description="Field of ArchiveLimits or QaLimits that the check reads.")


_SEND_AGAIN = "Make the zip again with the files themselves and send it again."

_TABLE: tuple[Rule, ...] = (
    # The archive: what may be in a zip or folder at all.
    Rule(
        id="archive.path",
        severity=ERROR,
        what="The archive holds an entry with an unsafe name ({why}); it was not read.",
        remedy="Use plain relative names with forward slashes, such as audio/fan_01.wav.",
    ),
    Rule(
        id="archive.link",
        severity=ERROR,
        what="The archive holds a link instead of a file; it was not followed.",
        remedy="Replace the link by the file it points to.",
    ),
    Rule(
        id="archive.kind",
        severity=ERROR,
        what="The entry is neither a file nor a folder.",
        remedy="Send only regular files.",
    ),
    Rule(
        id="archive.encrypted",
        severity=ERROR,
        what="The entry is encrypted.",
        remedy="Make the zip again without a password.",
    ),
    Rule(
        id="archive.method",
        severity=ERROR,
        what="The entry is packed by method {method}, which is not read here.",
        remedy="Make the zip with the standard method (Deflate), or unpacked (Store).",
    ),
    Rule(
        id="archive.duplicate",
        severity=ERROR,
        what="The archive holds this name more than once; only the first was read.",
        remedy="Keep one file per name.",
    ),
    Rule(
        id="archive.case",
        severity=ERROR,
        what="The name differs from {other} only in upper and lower case; it was not read.",
        remedy="Give the two files different names.",
    ),
    Rule(
        id="archive.overlap",
        severity=ERROR,
        what="The entry shares its bytes with another one, which no honest archive does.",
        remedy=_SEND_AGAIN,
    ),
    Rule(
        id="archive.damaged",
        severity=ERROR,
        what="The entry cannot be unpacked: {why}.",
        remedy=_SEND_AGAIN,
    ),
    Rule(
        id="archive.entries",
        severity=ERROR,
        what="The package holds more than {limit:,} files.",
        remedy="Split it into smaller packages.",
        limit="max_entries",
    ),
    Rule(
        id="archive.file_bytes",
        severity=ERROR,
        what="The file is larger than {limit:,} bytes.",
        remedy="Cut the recording into shorter files.",
        limit="max_file_bytes",
    ),
    Rule(
        id="archive.total_bytes",
        severity=ERROR,
        what="The package unpacks to more than {limit:,} bytes.",
        remedy="Split it into smaller packages.",
        limit="max_total_bytes",
    ),
    Rule(
        id="archive.ratio",
        severity=ERROR,
        what="The entry unpacks to more than {limit:g} times its packed size, as a zip bomb does.",
        remedy="Send the recordings themselves; real sound does not pack that small.",
        limit="max_ratio",
    ),
    # The table as a file.
    Rule(
        id="table.missing",
        severity=ERROR,
        what="The package has no metadata.csv at its top.",
        remedy="Put metadata.csv beside the audio folder, with one line per recording.",
    ),
    Rule(
        id="table.bytes",
        severity=ERROR,
        what="The table is larger than {limit:,} bytes.",
        remedy="Send one line per recording and only the columns of the form.",
        limit="max_table_bytes",
    ),
    Rule(
        id="table.encoding",
        severity=ERROR,
        what="The table is not UTF-8 text.",
        remedy='Save it again as "CSV UTF-8".',
    ),
    Rule(
        id="table.delimiter",
        severity=ERROR,
        what="The columns are separated by {delimiter} instead of commas.",
        remedy="Save the table again with commas between the columns.",
    ),
    Rule(
        id="table.unreadable",
        severity=ERROR,
        what="The table cannot be read as CSV: {why}.",
        remedy="Open it in a spreadsheet and save it again as CSV UTF-8.",
    ),
    Rule(
        id="table.empty",
        severity=ERROR,
        what="The table has no rows.",
        remedy="Fill in one line per recording below the header.",
    ),
    Rule(
        id="table.rows",
        severity=ERROR,
        what="The table has more than {limit:,} rows.",
        remedy="Split the package; a row stands for one file.",
        limit="max_entries",
    ),
    Rule(
        id="table.columns",
        severity=ERROR,
        what="The table has {count} columns; at most {limit} are read.",
        remedy="Keep only the columns of the form.",
        limit="max_table_columns",
    ),
    Rule(
        id="table.column_missing",
        severity=ERROR,
        what="The column is missing.",
        remedy="Add the column {column} and fill it in every row that needs it.",
    ),
    Rule(
        id="table.column_twice",
        severity=ERROR,
        what="The header names this column twice; only the first was read.",
        remedy="Keep one of the two columns.",
    ),
    Rule(
        id="table.column_unknown",
        severity=WARN,
        what="The column is not part of the form and was ignored.",
        remedy="Correct its name if it was meant as a column of the form; otherwise nothing needs doing.",
    ),
    Rule(
        id="table.row_width",
        severity=ERROR,
        what="The row has {count} cells under a header of {expected}.",
        remedy="Put quotes around cells that hold a comma.",
    ),
    # One cell.
    Rule(
        id="cell.missing",
        severity=ERROR,
        what="The cell is empty.",
        remedy="Fill in {column} for this row.",
    ),
    Rule(
        id="cell.control",
        severity=ERROR,
        what="The cell holds a control character or a line break.",
        remedy="Type the cell again.",
    ),
    Rule(
        id="cell.length",
        severity=ERROR,
        what="The cell holds more than {limit} characters.",
        remedy="Shorten it.",
        limit="max_cell_chars",
    ),
    Rule(
        id="cell.boolean",
        severity=ERROR,
        what="The value is neither yes nor no.",
        remedy="Write true or false.",
    ),
    Rule(
        id="cell.number",
        severity=ERROR,
        what="The value is not a finite number.",
        remedy="Write a plain number such as 12.5, without a unit.",
    ),
    Rule(
        id="cell.choice",
        severity=ERROR,
        what="The value is not one of the allowed ones.",
        remedy="Write one of: {choices}.",
    ),
    Rule(
        id="cell.time",
        severity=ERROR,
        what="The value is not an ISO 8601 date or time.",
        remedy="Write it as 2026-03-02 or 2026-03-02T09:30.",
    ),
    # One row, and rows against each other.
    Rule(
        id="row.path",
        severity=ERROR,
        what="The path does not lead to a file under audio/ inside the package ({why}).",
        remedy="Write it as audio/<file name>, with forward slashes.",
    ),
    Rule(
        id="row.path_twice",
        severity=ERROR,
        what="Several rows name this file.",
        remedy="Keep one row per file.",
    ),
    Rule(
        id="row.clip_id",
        severity=ERROR,
        what="The clip_id holds a slash or a backslash, or is only dots.",
        remedy="Use letters, digits, spaces, dots, dashes and underscores of any script.",
    ),
    Rule(
        id="row.clip_id_twice",
        severity=ERROR,
        what="Several rows have this clip_id.",
        remedy="Give every row its own clip_id, or leave the column empty.",
    ),
    Rule(
        id="row.machine_type",
        severity=ERROR,
        what="The machine type is unknown.",
        remedy="Write one of: {choices}.",
    ),
    Rule(
        id="row.train_confirmed",
        severity=ERROR,
        what="A training recording is not confirmed as normal.",
        remedy="Have someone who knows the machine confirm it (confirmed_normal = true), or take the row out.",
    ),
    Rule(
        id="row.normal_only",
        severity=ERROR,
        what="A {split} recording is marked as an anomaly.",
        remedy="Training and supplemental recordings are normal only; set split to test, or correct the label.",
    ),
    Rule(
        id="row.supp_type",
        severity=ERROR,
        what="supp_type must be filled on supplemental rows and empty on all others; this row is {split}.",
        remedy="Write noise or machine on supplemental rows and leave supp_type empty on all others.",
    ),
    Rule(
        id="row.anomaly_only",
        severity=ERROR,
        what="The cell describes an anomaly, but the row is not labelled as one.",
        remedy="Set label to anomaly, or empty the cell.",
    ),
    Rule(
        id="row.regions",
        severity=ERROR,
        what="The anomaly regions are not ordered pairs of seconds ({why}).",
        remedy="Write them as [[start_s, end_s], ...] in seconds, in order and without overlap.",
    ),
    Rule(
        id="row.is_anomaly",
        severity=ERROR,
        what="is_anomaly contradicts the label.",
        remedy="Correct one of the two, or leave is_anomaly out: it follows from the label.",
    ),
    # What we ask for and can do without.
    Rule(
        id="ask.recorded_at",
        severity=WARN,
        what="{count} of {total} rows do not say when they were recorded.",
        remedy="Fill in recorded_at (such as 2026-03-02T09:30): drift and seasons cannot be seen without it.",
    ),
    Rule(
        id="ask.confirmed_by",
        severity=WARN,
        what="{count} of {total} training rows do not say who confirmed that the machine was normal.",
        remedy="Fill in confirmed_by with a name or a role.",
    ),
    # Table against archive.
    Rule(
        id="file.missing",
        severity=ERROR,
        what="The table names a file that is not in the package.{hint}",
        remedy="Add the file to the package, or take the row out.",
    ),
    Rule(
        id="file.unlisted",
        severity=WARN,
        what="The file is in audio/, but no row of the table names it; it was ignored.",
        remedy="Add a row for it, or leave the file out.",
    ),
    # The signal of one clip.
    Rule(
        id="clip.undecodable",
        severity=REJECT,
        what="The file cannot be decoded: {why}.",
        remedy="Export the recording again as WAV (PCM) and check that it plays.",
    ),
    Rule(
        id="clip.format",
        severity=REJECT,
        what="The file holds {found}, not WAV or FLAC.",
        remedy="Export the recording as WAV (PCM); renaming a file does not convert it.",
    ),
    Rule(
        id="clip.too_large",
        severity=REJECT,
        what="The recording holds {measured:,} samples; at most {limit:,} are read.",
        remedy="Cut the recording into shorter files.",
        limit="max_samples",
    ),
    Rule(
        id="clip.channels",
        severity=REJECT,
        what="The file has {measured} channels; at most {limit} are read.",
        remedy="Send the channels of the machine's own sensors only.",
        limit="max_channels",
    ),
    Rule(
        id="clip.rate_low",
        severity=REJECT,
        what="The sample rate is {measured} Hz, below {limit} Hz.",
        remedy="Record at 16 kHz or more.",
        limit="min_sample_rate",
    ),
    Rule(
        id="clip.rate_high",
        severity=REJECT,
        what="The sample rate is {measured} Hz, above {limit} Hz.",
        remedy="Check the file's header; record at 16 to 48 kHz.",
        limit="max_sample_rate",
    ),
    Rule(
        id="clip.short",
        severity=REJECT,
        what="The clip lasts {measured:.3g} s, less than {limit:g} s.",
        remedy="Record 10 s at a stretch.",
        limit="min_duration_s",
    ),
    Rule(
        id="clip.long",
        severity=REJECT,
        what="The clip lasts {measured:.0f} s, more than {limit:g} s.",
        remedy="Cut the recording into shorter files.",
        limit="max_duration_s",
    ),
    Rule(
        id="clip.nan",
        severity=REJECT,
        what="The recording holds values that are no numbers (NaN or infinite).",
        remedy="Export it again as 16- or 24-bit WAV.",
    ),
    Rule(
        id="clip.dead",
        severity=REJECT,
        what="The recording is as good as silent (RMS {measured_db:.0f} dBFS, below {limit_db:.0f} dBFS).",
        remedy="Check that the sensor is plugged in and switched on, and record again.",
        limit="reject_rms",
    ),
    Rule(
        id="clip.quiet",
        severity=WARN,
        what="The recording is very quiet (RMS {measured_db:.0f} dBFS, below {limit_db:.0f} dBFS).",
        remedy="Raise the recording level or move the microphone closer, the same for all clips.",
        limit="warn_rms",
    ),
    Rule(
        id="clip.clipped_lost",
        severity=REJECT,
        what="{measured:.1%} of the samples are at full scale, more than {limit:.1%}: the waveform is lost.",
        remedy="Lower the recording level and record again.",
        limit="reject_clipping_ratio",
    ),
    Rule(
        id="clip.clipped",
        severity=WARN,
        what="{measured:.1%} of the samples are at full scale, more than {limit:.1%}.",
        remedy="Lower the recording level for the next recordings, the same for all clips.",
        limit="warn_clipping_ratio",
    ),
    Rule(
        id="clip.over_scale",
        severity=WARN,
        what="The samples go up to {measured:.3g} times full scale.",
        remedy="Export with a fixed gain, the same for all clips, that keeps the samples within -1 and 1.",
    ),
    Rule(
        id="clip.silent",
        severity=REJECT,
        what="{measured:.0%} of the clip is digital silence, more than {limit:.0%}.",
        remedy="Check cable and recorder, and record again without pauses.",
        limit="reject_silence_ratio",
    ),
    Rule(
        id="clip.dropouts",
        severity=WARN,
        what="{measured:.0%} of the clip is digital silence, more than {limit:.0%}.",
        remedy="Check cable and recorder: a running machine is never digitally silent.",
        limit="warn_silence_ratio",
    ),
    Rule(
        id="clip.dc_offset",
        severity=WARN,
        what="The samples are off centre by {measured:.3f} of full scale, more than {limit:g}.",
        remedy="Check the recorder's input coupling; use the high-pass filter it offers.",
        limit="warn_dc_offset",
    ),
    Rule(
        id="clip.lost_energy",
        severity=WARN,
        what="{measured:.0%} of the recording's energy lies above {nyquist:g} Hz, where this machine type is not "
        "listened to; more than {allowed:.0%} may matter.",
        remedy="Nothing to do if the machine's own sound is below {nyquist:g} Hz; else ask for this machine type to be "
        "judged at a higher rate.",
    ),
    # Clips against each other.
    Rule(
        id="clip.copy_train",
        severity=REJECT,
        what="The recording is an exact copy of {other}, which is already trained on.",
        remedy="Send each recording once: copies add nothing and make the threshold too tight.",
    ),
    Rule(
        id="clip.copy",
        severity=WARN,
        what="The recording is an exact copy of {other}.",
        remedy="Send each recording once: copies weigh the figures twice.",
    ),
    Rule(
        id="clip.leak",
        severity=WARN,
        what="The recording is an exact copy of the training recording {other}: its score says nothing.",
        remedy="Test on recordings that are not trained on.",
    ),
    Rule(
        id="clip.contradiction",
        severity=REJECT,
        what="The same recording is a training normal here and a test anomaly in {other}.",
        remedy="Find out which of the two is right and correct the table.",
    ),
    Rule(
        id="clip.two_labels",
        severity=WARN,
        what="The same recording is labelled otherwise in {other}.",
        remedy="Find out which of the two labels is right and correct the table.",
    ),
    # Clips against what the machine was taught before.
    Rule(
        id="clip.known_normal",
        severity=WARN,
        what="The machine learnt this recording as normal from an earlier package; here it is sent{hint} to be judged, "
        "and its score says nothing.",
        remedy="Judge other recordings; if this one is no normal, send word that it was learnt wrongly.",
    ),
    # An asset as a whole.
    Rule(
        id="asset.mixed_rates",
        severity=WARN,
        what="The recording is at {measured} Hz, while this machine's other recordings are mostly at {other} Hz: the "
        "band that one of them lacks sounds like a fault, or hides one.",
        remedy="Record a machine at one rate throughout, {standard} Hz or more, and send this recording again.",
    ),
    Rule(
        id="asset.normals",
        severity=REJECT,
        what="Asset {asset} has {measured} good normal recordings of its own; it needs at least {limit}.",
        remedy="Record {missing} more of its normal running, 10 s each, and send them together with those you have, in "
        "one package: a refused one is not learnt from. {recommended} in all are better.",
        limit="min_normals",
    ),
    Rule(
        id="asset.few_normals",
        severity=WARN,
        what="Asset {asset} has {measured} good normal recordings of its own; {limit} are recommended.",
        remedy="Record {missing} more of its normal running, 10 s each, when you can: the threshold gets firmer.",
        limit="recommended_normals",
    ),
)

RULES: Mapping[str, Rule] = MappingProxyType({rule.id: rule for rule in _TABLE})
"""Every rule by its id, in the order of the checks."""


def report(
    rule_id: str,
    *,
    limits: ArchiveLimits | QaLimits | None = None,
    file: str | None = None,
    row: int | None = None,
    column: str | None = None,
    value: object = None,
    clip_id: str | None = None,
    **facts: object,
) -> Problem:
    """The problem that a failed rule makes at one place, in the rule's words.

    `limits` is needed by a rule that has a limit; `facts` fill the rule's templates.
    """
    rule = RULES[rule_id]
    if rule.limit is not None:
        facts["limit"] = getattr(limits, rule.limit)
    facts.setdefault("column", column)
    return Problem(
        rule=rule.id,
        severity=rule.severity,
        message=rule.what.format(**facts),
        remedy=rule.remedy.format(**facts),
        file=_printable(file),
        row=row,
        column=column,
        value=_printable(value),
        clip_id=_printable(clip_id),
    )


def _printable(value: object) -> str | None:
    """Text that no terminal acts on: control characters and lone surrogates as escapes, cut to length."""
    if value is None:
        return None
    text = str(value)[:MAX_VALUE_CHARS]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
