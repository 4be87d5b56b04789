"""The one rule table: every check on a package, what it says when it fails, and the remedy.

The archive reader, the table contract and the signal checks all take severity and words from here, so that a
report, a command line and a document cannot disagree. A rule with a `limit` names the field of the settings that
holds the number; the table itself holds none. docs/quality.md is written from this table.

`what` and `remedy` are `str.format` templates over the facts that the check measured, plus `limit` and what the forms
ask for (`asked_for`). Text from a
package enters only as a fact, never as a template. Their Korean stands in tasks/report/texts.yaml under `rules`.

A rule whose `measure` is a column of the table of measures (`tasks.quality.Judgement.quality`) can be stated of a
whole package: at least the share `mostly` of the clips keeps within `limit`. tasks/expectations.py says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.forms import rates_asked_for, shared_quantity
from schemas.problems import Problem, Severity
from schemas.settings import Settings

MAX_VALUE_CHARS = 200

_SYMBOLS = frozenset({"Hz", "dB", "s"})
"""Units that are written the same in every language."""

ERROR, REJECT, WARN = Severity.ERROR, Severity.REJECT, Severity.WARN


class Rule(BaseModel):
    """One check: when it fails, `what` says so and `remedy` how to mend it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="Stable, `<part of the package>.<what is wrong>`.")
    severity: Severity
    what: str = Field(description="Template of the sentence that says what is wrong.")
    remedy: str = Field(description="Template of the sentence that says what to do.")
    reason: str = Field(default="", description="Why the check is made, for docs/quality.md.")
    limit: str | None = Field(default=None, description="Field of the settings in schemas/settings.py that is read.")
    unit: str = Field(
        default="", description="Of limit and measured value; `share` is 0-1, `dBFS` is said of a linear amplitude."
    )
    measure: str | None = Field(default=None, description="Column of the table of measures that the limit bounds.")
    bound: Literal["least", "most"] | None = Field(default=None, description="On which side the limit bounds it.")
    mostly: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Share of a package's clips that keep the rule where all is well; by default one of the ten that"
        " a plant is asked for may fail.",
    )


_SEND_AGAIN = "Make the zip again with the files themselves and send it again."

_TABLE: tuple[Rule, ...] = (
    # The archive: what may be in a zip or folder at all.
    Rule(
        id="archive.path",
        severity=ERROR,
        what="The archive holds an entry with an unsafe name ({why}); it was not read.",
        remedy="Use plain relative names with forward slashes, such as audio/fan_01.wav.",
        reason="A name that leads out of the package would write over this machine's own files.",
    ),
    Rule(
        id="archive.link",
        severity=ERROR,
        what="The archive holds a link instead of a file; it was not followed.",
        remedy="Replace the link by the file it points to.",
        reason="A link can lead to any file of the machine that follows it.",
    ),
    Rule(
        id="archive.kind",
        severity=ERROR,
        what="The entry is neither a file nor a folder.",
        remedy="Send only regular files.",
        reason="Devices and pipes hold no recording, and reading one can hang for ever.",
    ),
    Rule(
        id="archive.encrypted",
        severity=ERROR,
        what="The entry is encrypted.",
        remedy="Make the zip again without a password.",
        reason="What cannot be unpacked cannot be judged.",
    ),
    Rule(
        id="archive.method",
        severity=ERROR,
        what="The entry is packed by method {method}, which is not read here.",
        remedy="Make the zip with the standard method (Deflate), or unpacked (Store).",
        reason="What cannot be unpacked here cannot be judged.",
    ),
    Rule(
        id="archive.duplicate",
        severity=ERROR,
        what="The archive holds this name more than once; only the first was read.",
        remedy="Keep one file per name.",
        reason="Programs disagree about which of two equal names counts: one could check what the other does not use.",
    ),
    Rule(
        id="archive.case",
        severity=ERROR,
        what="Where upper and lower case count as one, the name is the same as {other}; it was not read.",
        remedy="Give the two files different names.",
        reason="On Windows and macOS the two names are one file, so one recording would replace the other.",
    ),
    Rule(
        id="archive.folder",
        severity=ERROR,
        what="The name stands for a file and for a folder; the file was not read.",
        remedy="Give the file another name.",
        reason="No disk can hold both, so one of them would be lost wherever the package is unpacked.",
    ),
    Rule(
        id="archive.empty",
        severity=ERROR,
        what="The file is empty.",
        remedy="Copy or download it again.",
        reason="There is nothing to judge.",
    ),
    Rule(
        id="archive.cut_off",
        severity=ERROR,
        what="The zip is cut off or damaged: the directory at its end cannot be read.",
        remedy="Copy or download it again, or make it anew.",
        reason="Without its directory nobody can say which files are missing.",
    ),
    Rule(
        id="archive.unreadable",
        severity=ERROR,
        what="The file is not a zip.",
        remedy="Send a zip or a folder with metadata.csv or metadata.xlsx and audio/ in it.",
        reason="Archives of other kinds would each need a reader of their own that is safe.",
    ),
    Rule(
        id="archive.overlap",
        severity=ERROR,
        what="The entry shares its bytes with another one, which no honest archive does.",
        remedy=_SEND_AGAIN,
        reason="Overlapping entries are how a few megabytes unpack to petabytes (Fifield 2019).",
    ),
    Rule(
        id="archive.damaged",
        severity=ERROR,
        what="The entry cannot be unpacked: {why}.",
        remedy=_SEND_AGAIN,
        reason="Half a recording passes for a short one, so only whole files are believed.",
    ),
    Rule(
        id="archive.entries",
        severity=ERROR,
        what="The package holds more than {limit:,} files.",
        remedy="Split it into smaller packages.",
        limit="max_entries",
        reason="It bounds the time and memory that one package can take.",
        unit="files",
    ),
    Rule(
        id="archive.file_bytes",
        severity=ERROR,
        what="The file is larger than {limit:,} bytes.",
        remedy="Cut the recording into shorter files.",
        limit="max_file_bytes",
        reason="It bounds the memory that one file can take.",
        unit="bytes",
    ),
    Rule(
        id="archive.total_bytes",
        severity=ERROR,
        what="The package unpacks to more than {limit:,} bytes.",
        remedy="Split it into smaller packages.",
        limit="max_total_bytes",
        reason="It bounds the disk and the time that one package can take.",
        unit="bytes",
    ),
    Rule(
        id="archive.ratio",
        severity=ERROR,
        what="The entry unpacks to more than {limit:g} times its packed size, as a zip bomb does.",
        remedy="Send the recordings themselves; real sound does not pack that small.",
        limit="max_ratio",
        reason="A few kilobytes that unpack to gigabytes are meant to fill a disk.",
        unit="times the packed size",
    ),
    # The table as a file.
    Rule(
        id="table.missing",
        severity=ERROR,
        what="The package has no metadata.csv or metadata.xlsx at its top.",
        remedy="Put the table beside the audio folder, with one line per recording.",
        reason="Without the table nobody knows which machine a sound belongs to, or whether it ran normally.",
    ),
    Rule(
        id="table.misplaced",
        severity=ERROR,
        what="The table is not at the top of the package: {found} lies in a folder.",
        remedy="Move it up, beside the folder audio, and both out of any further folder.",
        reason="A table deep in a package may belong to something else that was packed along.",
    ),
    Rule(
        id="table.other_format",
        severity=ERROR,
        what="What seems to be the table, {found}, is in a format that is not read.",
        remedy="Open it and save it as an Excel workbook (.xlsx) or as CSV UTF-8.",
        reason="Each further format would need a reader of its own that is safe.",
    ),
    Rule(
        id="table.page",
        severity=ERROR,
        what="The package holds the form as a page to print ({found}), and no table.",
        remedy="Fill in the sheet metadata of the form as a workbook (.xlsx), and put it beside the folder audio.",
        reason="The page says what to record; what was recorded stands in the table.",
    ),
    Rule(
        id="table.alone",
        severity=ERROR,
        what="This is a table, and no package.",
        remedy="Put it beside a folder audio that holds the recordings, and send a zip of the two.",
        reason="A table without its sounds gives nothing to listen to.",
    ),
    Rule(
        id="table.title_rows",
        severity=ERROR,
        what="The header stands in row {found}, below other rows.",
        remedy="Remove the rows above it, so that the table begins with its header.",
        reason="Which row is the header would be a guess wherever a title holds a word of the form.",
    ),
    Rule(
        id="table.several",
        severity=ERROR,
        what="The package holds more than one table: {table}, which was read, and {others}.",
        remedy="Keep the one that is right, and take the others out of the package.",
        reason="Two tables that differ would each be right by themselves.",
    ),
    Rule(
        id="table.bytes",
        severity=ERROR,
        what="The table is larger than {limit:,} bytes.",
        remedy="Send one line per recording and only the columns of the form.",
        limit="max_table_bytes",
        reason="It bounds the memory that reading the table can take.",
        unit="bytes",
    ),
    Rule(
        id="table.encoding",
        severity=ERROR,
        what="The table is neither UTF-8 text nor CP949.",
        remedy='Save it again as "CSV UTF-8" or as an Excel workbook (.xlsx).',
        reason="A wrong guess would turn Korean names into others without a word.",
    ),
    Rule(
        id="table.codepage",
        severity=WARN,
        what="The table is not UTF-8 text; it was read as CP949, the encoding of Korean Windows.",
        remedy='Look at a Korean name in the report; if it is garbled, save the table again as "CSV UTF-8".',
        reason="A file does not say that it is CP949; that it reads as Korean is strong evidence, not proof.",
    ),
    Rule(
        id="table.delimiter",
        severity=ERROR,
        what="The columns are separated by {delimiter} instead of commas.",
        remedy="Save the table again with commas, semicolons or tabs between the columns.",
        reason="Read as one column, the table would say nothing.",
    ),
    Rule(
        id="table.unreadable",
        severity=ERROR,
        what="The table cannot be read: {why}.",
        remedy="Open it in a spreadsheet and save it again, as CSV UTF-8 or as an Excel workbook (.xlsx), without a "
        "password.",
        reason="Of a damaged table nobody can say which rows are missing.",
    ),
    Rule(
        id="table.sheets",
        severity=ERROR,
        what="Several sheets of the workbook look like the table ({others} beside {sheet}); only {sheet} was read.",
        remedy="Put all recordings on one sheet, and name it metadata.",
        reason="Recordings on a sheet that is not read would be left out without a word.",
    ),
    Rule(
        id="table.empty",
        severity=ERROR,
        what="The table has no rows.",
        remedy="Fill in one line per recording below the header.",
        reason="There is nothing to judge.",
    ),
    Rule(
        id="table.rows",
        severity=ERROR,
        what="The table has more than {limit:,} rows.",
        remedy="Split the package; a row stands for one file.",
        limit="max_entries",
        reason="It bounds the time and memory that one package can take.",
        unit="rows",
    ),
    Rule(
        id="table.columns",
        severity=ERROR,
        what="The table has {count} columns; at most {limit} are read.",
        remedy="Keep only the columns of the form.",
        limit="max_table_columns",
        reason="It bounds the memory that reading the table can take.",
        unit="columns",
    ),
    Rule(
        id="table.column_missing",
        severity=ERROR,
        what="The column is missing.",
        remedy="Add the column {column} and fill it in every row that needs it.",
        reason="Nothing can be learnt from a recording without knowing which machine it is and that it ran normally.",
    ),
    Rule(
        id="table.column_twice",
        severity=ERROR,
        what="The header names this column twice; only the first was read.",
        remedy="Keep one of the two columns.",
        reason="Two columns of one name may contradict each other.",
    ),
    Rule(
        id="table.column_unknown",
        severity=WARN,
        what="The column is not part of the form and was ignored.",
        remedy="Correct its name if it was meant as a column of the form; otherwise nothing needs doing.",
        reason="A misspelt header would lose what the plant filled in.",
    ),
    Rule(
        id="table.row_width",
        severity=ERROR,
        what="The row has {count} cells under a header of {expected}.",
        remedy="Put quotes around cells that hold a comma.",
        reason="A comma too many shifts the cells behind it into wrong columns.",
    ),
    # One cell.
    Rule(
        id="cell.missing",
        severity=ERROR,
        what="The cell is empty.",
        remedy="Fill in {column} for this row.",
        reason="The value has no default that would be safe to assume.",
    ),
    Rule(
        id="cell.control",
        severity=ERROR,
        what="The cell holds a control character or a line break.",
        remedy="Type the cell again.",
        reason="Control characters can rewrite what a terminal or a spreadsheet shows.",
    ),
    Rule(
        id="cell.length",
        severity=ERROR,
        what="The cell holds more than {limit} characters.",
        remedy="Shorten it.",
        limit="max_cell_chars",
        reason="No value of the form is that long; it bounds what reports have to carry.",
        unit="characters",
    ),
    Rule(
        id="cell.formula",
        severity=ERROR,
        what="The cell holds a formula without a value, or an error.",
        remedy="Write the value itself; in a spreadsheet, copy the cells and paste them as values.",
        reason="Nothing is calculated here: an empty cell in its place could mean something else.",
    ),
    Rule(
        id="cell.boolean",
        severity=ERROR,
        what="The value is neither yes nor no.",
        remedy="Write yes or no.",
        reason="A guess could turn an unconfirmed recording into a confirmed one.",
    ),
    Rule(
        id="cell.number",
        severity=ERROR,
        what="The value is not a finite number.",
        remedy="Write a plain number such as 12.5, without a unit.",
        reason="A unit or a comma inside a number would be guessed at.",
    ),
    Rule(
        id="cell.choice",
        severity=ERROR,
        what="The value is not one of the allowed ones.",
        remedy="Write one of: {choices}.",
        reason="A misspelt split or label would put a recording to a use that it was not meant for.",
    ),
    Rule(
        id="cell.time",
        severity=ERROR,
        what="The value is no date or time that begins with a year from {first} to {last}.",
        remedy="Write it as 2026-03-02 09:30, or as 2026-03-02.",
        reason="Which of 03/02 is the day differs from country to country; 9999 is what some forms hold for a day that"
        " is not known.",
    ),
    Rule(
        id="cell.serial",
        severity=ERROR,
        what="The value is a bare number, as a spreadsheet stores a date; as text it is no date.",
        remedy="In the spreadsheet, show the column in the format yyyy-mm-dd hh:mm and save it again, or send the "
        "workbook (.xlsx) itself.",
        reason="A number alone does not say from which day it counts: 1900 and 1904 are both in use.",
    ),
    # One row, and rows against each other.
    Rule(
        id="row.path",
        severity=ERROR,
        what="The path does not lead to a file under audio/ inside the package ({why}).",
        remedy="Put the recording into the folder audio, and write it as audio/<file name>, with forward slashes.",
        reason="The table may only name sounds of its own package.",
    ),
    Rule(
        id="row.path_twice",
        severity=ERROR,
        what="Several rows name this file.",
        remedy="Keep one row per file.",
        reason="One recording would be counted twice, perhaps under two labels.",
    ),
    Rule(
        id="row.clip_id",
        severity=ERROR,
        what="The clip_id holds a slash or a backslash, or is only dots.",
        remedy="Use letters, digits, spaces, dots, dashes and underscores of any script.",
        reason="Clip ids become names in results, where a slash would make a folder.",
    ),
    Rule(
        id="row.clip_id_twice",
        severity=ERROR,
        what="Several rows have this clip_id.",
        remedy="Give every row its own clip_id, or leave the column empty.",
        reason="A score could not be told to which recording it belongs.",
    ),
    Rule(
        id="row.machine_type",
        severity=ERROR,
        what="The machine type is unknown.",
        remedy="Write one of: {choices}.",
        reason="The type decides the rate at which a machine is listened to, and what it is compared with.",
    ),
    Rule(
        id="row.train_confirmed",
        severity=ERROR,
        what="A training recording is not confirmed as normal.",
        remedy="Have someone who knows the machine confirm it (confirmed_normal: yes), or take the row out.",
        reason="A fault that is learnt as normal is never heard again.",
    ),
    Rule(
        id="row.normal_only",
        severity=ERROR,
        what="A {split} recording is marked as an anomaly.",
        remedy="Training and supplemental recordings are normal only; set split to test, or correct the label.",
        reason="A fault that is learnt as normal is never heard again.",
    ),
    Rule(
        id="row.supp_type",
        severity=ERROR,
        what="supp_type must be filled on supplemental rows and empty on all others; this row is {split}.",
        remedy="Write noise or machine on supplemental rows and leave supp_type empty on all others.",
        reason="Noise and a clean machine are used for different ends.",
    ),
    Rule(
        id="row.anomaly_only",
        severity=ERROR,
        what="The cell describes an anomaly, but the row is not labelled as one.",
        remedy="Set label to anomaly, or empty the cell.",
        reason="Either the description or the label is wrong.",
    ),
    Rule(
        id="row.regions",
        severity=ERROR,
        what="The anomaly regions are not ordered pairs of seconds ({why}).",
        remedy="Write them as [[start_s, end_s], ...] in seconds, in order and without overlap.",
        reason="Regions that cannot be placed in time would mark the wrong part of a recording.",
    ),
    Rule(
        id="row.is_anomaly",
        severity=ERROR,
        what="is_anomaly contradicts the label.",
        remedy="Correct one of the two, or leave is_anomaly out: it follows from the label.",
        reason="One of the two is wrong, and figures would depend on which is read.",
    ),
    # What we ask for and can do without.
    Rule(
        id="ask.recorded_at",
        severity=WARN,
        what="{count} of {total} rows do not say when they were recorded.",
        remedy="Fill in recorded_at (such as 2026-03-02 09:30): drift and seasons cannot be seen without it.",
        reason="Recordings of one hour show one state of a machine: time tells how much of its normal life was heard.",
    ),
    Rule(
        id="ask.confirmed_by",
        severity=WARN,
        what="{count} of {total} training rows do not say who confirmed that the machine was normal.",
        remedy="Fill in confirmed_by with a name or a role.",
        reason="When an alarm is disputed, someone has to be asked.",
    ),
    Rule(
        id="ask.noise",
        severity=WARN,
        what="No recording of the place without the machine (noise only) came with the package.",
        remedy="When you can, record {low} to {high} s with the machine off and everything around it as usual, and "
        "send it as supplemental noise: by it a machine that stands still is told from one that sounds wrong.",
        reason="Without it nobody can say what is heard when the machine is off, and silence may ring an alarm.",
    ),
    # Table against archive.
    Rule(
        id="file.missing",
        severity=ERROR,
        what="The table names a file that is not in the package.",
        remedy="Add the file to the package, or take the row out.",
        reason="A table and its sounds that do not fit may have been mixed up with those of another package.",
    ),
    Rule(
        id="file.elsewhere",
        severity=ERROR,
        what="There is no file of this path in the package; a file of that name lies at {near}.",
        remedy="Write the path of each file into the table as it lies in the package, folders and upper and lower case "
        "included.",
        reason="Files of one name in several folders are several recordings: which is meant, only the table can say.",
    ),
    Rule(
        id="file.outside",
        severity=ERROR,
        what="There is no file of this path in the package; a file of that name lies at {near}, outside the folder "
        "audio.",
        remedy="Put the recordings where the table has them, in a folder beside the table that is called audio, in "
        "lower case.",
        reason="Only what lies in audio is taken for a recording.",
    ),
    Rule(
        id="file.unlisted",
        severity=WARN,
        what="The file is in audio/, but no row of the table names it; it was ignored.",
        remedy="Add a row for it, or leave the file out.",
        reason="A row may have been forgotten.",
    ),
    # The signal of one clip.
    Rule(
        id="clip.undecodable",
        severity=REJECT,
        what="The file cannot be decoded: {why}.",
        remedy="Export the recording again as WAV (PCM) and check that it plays.",
        reason="A sound that does not play holds nothing to learn.",
    ),
    Rule(
        id="clip.format",
        severity=REJECT,
        what="The file holds {found}, not WAV or FLAC.",
        remedy="Set the recorder or the recording app to WAV (PCM) and record again, or export the original as WAV; "
        "renaming a file does not convert it.",
        reason="Lossy formats cut away what the ear does not miss and a model listens to, also where a WAV file wraps "
        "them (ADPCM, GSM, MP3). µ-law and A-law are read: each sample is there, in coarser steps the louder it is.",
    ),
    Rule(
        id="clip.too_large",
        severity=REJECT,
        what="The recording holds {measured:,} samples; at most {limit:,} are read.",
        remedy="Cut the recording into shorter files.",
        limit="max_samples",
        reason="It bounds the memory that one recording can take.",
        unit="samples",
    ),
    Rule(
        id="clip.channels",
        severity=REJECT,
        what="The file has {measured} channels; at most {limit} are read.",
        remedy="Send the channels of the machine's own sensors only.",
        limit="max_channels",
        reason="No plant's sensor has more; such a header is broken or forged.",
        unit="channels",
    ),
    Rule(
        id="clip.rate_low",
        severity=REJECT,
        what="The sample rate is {measured} Hz, below {limit} Hz.",
        remedy="Record at {rate_low} kHz or more.",
        limit="min_sample_rate",
        reason="Below this rate no sound of a machine is left.",
        unit="Hz",
        measure="sample_rate",
        bound="least",
    ),
    Rule(
        id="clip.rate_high",
        severity=REJECT,
        what="The sample rate is {measured} Hz, above {limit} Hz.",
        remedy="Check the file's header; record at {rate_low} to {rate_high} kHz.",
        limit="max_sample_rate",
        reason="No recorder samples faster; such a header is broken or forged.",
        unit="Hz",
    ),
    Rule(
        id="clip.short",
        severity=REJECT,
        what="The clip lasts {measured:.3g} s, less than {limit:g} s.",
        remedy="Record {clip_s} s at a stretch.",
        limit="min_duration_s",
        reason="A shorter clip need not hold one full cycle of the machine.",
        unit="s",
        measure="duration_s",
        bound="least",
    ),
    Rule(
        id="clip.long",
        severity=REJECT,
        what="The clip lasts {measured:.0f} s, more than {limit:g} s.",
        remedy="Cut the recording into shorter files.",
        limit="max_duration_s",
        reason="A recording of hours is rarely one state of a machine.",
        unit="s",
    ),
    Rule(
        id="clip.nan",
        severity=REJECT,
        what="The recording holds values that are no samples (NaN, infinite, or billions of times full scale).",
        remedy="Export it again as 16- or 24-bit WAV.",
        reason="One value that is no number makes every figure of the clip one; no converter gives one so large.",
    ),
    Rule(
        id="clip.dead",
        severity=REJECT,
        what="The recording is as good as silent ({level}, below {limit_db:.0f} dBFS).",
        remedy="Check that the sensor is plugged in and switched on, and record again.",
        limit="reject_rms",
        reason="Silence learnt as normal makes every real sound an alarm.",
        unit="dBFS",
        measure="heard_rms",
        bound="least",
    ),
    Rule(
        id="clip.quiet",
        severity=WARN,
        what="The recording is very quiet ({level}, below {limit_db:.0f} dBFS).",
        remedy="Raise the recording level or move the microphone closer, the same for all clips.",
        limit="warn_rms",
        reason="So far down, the converter's own noise is part of what is learnt.",
        unit="dBFS",
        measure="heard_rms",
        bound="least",
    ),
    Rule(
        id="clip.clipped_lost",
        severity=REJECT,
        what="{measured:.1%} of the samples are at full scale, more than {limit:.1%}: the waveform is lost.",
        remedy="Lower the recording level and record again.",
        limit="reject_clipping_ratio",
        reason="A clipped waveform rings with tones that the machine does not have.",
        unit="share",
        measure="clipping_ratio",
        bound="most",
    ),
    Rule(
        id="clip.clipped",
        severity=WARN,
        what="{measured:.1%} of the samples are at full scale, more than {limit:.1%}.",
        remedy="Lower the recording level for the next recordings, the same for all clips.",
        limit="warn_clipping_ratio",
        reason="Clipping adds tones that the machine does not have.",
        unit="share",
        measure="clipping_ratio",
        bound="most",
    ),
    Rule(
        id="clip.flat_tops_lost",
        severity=REJECT,
        what="{measured:.1%} of the samples lie on tops cut flat, more than {limit:.1%}: the waveform is lost.",
        remedy="Lower the gain of the sensor's amplifier and record again.",
        limit="reject_clipping_ratio",
        reason="What was clipped before it was turned down looks well levelled, and is lost all the same.",
        unit="share",
        measure="flat_top_ratio",
        bound="most",
    ),
    Rule(
        id="clip.flat_tops",
        severity=WARN,
        what="{measured:.1%} of the samples lie on tops cut flat at {level_db:.0f} dBFS, more than {limit:.1%}.",
        remedy="Lower the gain before the recorder, at the microphone or the amplifier: the recorder's level is not "
        "the cause.",
        limit="warn_clipping_ratio",
        reason="A sensor or amplifier that saturates clips far below the recorder's full scale.",
        unit="share",
        measure="flat_top_ratio",
        bound="most",
    ),
    Rule(
        id="clip.over_scale_lost",
        severity=REJECT,
        what="The samples go up to {peak:,.1f} times full scale; {measured:.2%} of them, more than {limit:.2%}, lie "
        "beyond twice full scale, where they would be cut off.",
        remedy="Scale all recordings by one fixed factor so that the samples lie within -1 and 1 (counts of a 16-bit "
        "converter by 1/32768, pascals by 1/the largest that the sensor can take), or export 16- or 24-bit WAV.",
        limit="reject_over_range_ratio",
        reason="Float files may hold a converter's counts or physical units; what is kept ends at twice full scale.",
        unit="share",
        measure="over_range_ratio",
        bound="most",
    ),
    Rule(
        id="clip.over_scale",
        severity=WARN,
        what="The samples go up to {measured:.3g} times full scale.",
        remedy="Export with a fixed gain, the same for all clips, that keeps the samples within -1 and 1.",
        reason="Float samples beyond full scale come from a gain that differs from the other clips'.",
        unit="of full scale",
    ),
    Rule(
        id="clip.silent",
        severity=REJECT,
        what="{measured:.0%} of the clip is digital silence, more than {limit:.0%}.",
        remedy="Check cable and recorder, and record again without pauses.",
        limit="reject_silence_ratio",
        reason="Silence learnt as normal makes every real sound an alarm.",
        unit="share",
        measure="silence_ratio",
        bound="most",
    ),
    Rule(
        id="clip.dropouts",
        severity=WARN,
        what="{measured:.0%} of the clip is digital silence, more than {limit:.0%}.",
        remedy="Check cable and recorder: a running machine is never digitally silent.",
        limit="warn_silence_ratio",
        reason="A gap has edges that sound like knocks, in one of several microphones too: their mean is heard.",
        unit="share",
        measure="silence_ratio",
        bound="most",
    ),
    Rule(
        id="clip.stuck_lost",
        severity=REJECT,
        what="The sensor stands still for {measured:.0%} of the clip, more than {limit:.0%}.",
        remedy="Check sensor and cable, and record again.",
        limit="reject_silence_ratio",
        reason="A stuck sensor says nothing of the machine.",
        unit="share",
        measure="stuck_ratio",
        bound="most",
    ),
    Rule(
        id="clip.stuck",
        severity=WARN,
        what="The sensor stands still at one value for {measured:.0%} of the clip, more than {limit:.0%}.",
        remedy="Check sensor and cable: a recorder that loses samples often repeats the last one.",
        limit="warn_stuck_ratio",
        reason="Drop-outs are not always zeros: many recorders hold the last value.",
        unit="share",
        measure="stuck_ratio",
        bound="most",
    ),
    Rule(
        id="clip.gaps",
        severity=WARN,
        what="For {measured:.0%} of the clip the sound is 40 dB or more below its usual level, more than {limit:.0%}.",
        remedy="Switch off noise suppression and voice activation in the recorder, and check the plugs. If the machine "
        "itself pauses, nothing needs doing.",
        limit="warn_gap_ratio",
        reason="Noise suppression and loose contacts cut the sound without leaving zeros.",
        unit="share",
        measure="gap_ratio",
        bound="most",
    ),
    Rule(
        id="clip.dead_channel",
        severity=WARN,
        what="Of {channels} channels, these carry no sound: {dead}.",
        remedy="Check that sensor and its cable, or send only the channels in use.",
        reason="The channels' mean is listened to: a dead one lowers the level.",
    ),
    Rule(
        id="clip.dead_axis",
        severity=REJECT,
        what="The first of {channels} channels carries no signal; of an accelerometer it is the one that is listened "
        "to.",
        remedy="Put the axis that matters first, and record again if it is not connected.",
        reason="Of an accelerometer only the first axis is listened to.",
    ),
    Rule(
        id="clip.cancelling_lost",
        severity=REJECT,
        what="The channels cancel each other: of their mean, which is listened to, {measured_db:.0f} dBFS are left, "
        "below {limit_db:.0f} dBFS.",
        remedy="Reverse the polarity of one microphone and record again, or send one channel.",
        limit="reject_rms",
        reason="Silence learnt as normal makes every real sound an alarm.",
        unit="dBFS",
    ),
    Rule(
        id="clip.cancelling",
        severity=WARN,
        what="The channels cancel each other: their mean has {measured:.0%} of the power that unrelated ones would "
        "leave, less than {limit:.0%}.",
        remedy="Reverse the polarity of one microphone, or send one channel.",
        limit="warn_mono_ratio",
        reason="The channels' mean is listened to; of two microphones wired in opposite phase nothing is left.",
        unit="share",
    ),
    Rule(
        id="clip.few_bits",
        severity=WARN,
        what="The samples use {measured:.0f} bits, fewer than {limit:.0f}.",
        remedy="Record with 16 bits or more at a sufficient level, without amplifying afterwards.",
        limit="warn_bits",
        reason="Coarse steps hide faint sounds in their own noise, whatever the header says.",
        unit="bits",
        measure="bits_used",
        bound="least",
    ),
    Rule(
        id="clip.dc_offset",
        severity=WARN,
        what="The samples are off centre by {measured:.3f} of full scale, more than {limit:g}.",
        remedy="Check the recorder's input coupling; use the high-pass filter it offers.",
        limit="warn_dc_offset",
        reason="An offset eats the range for the sound and hints at a wrongly wired sensor.",
        unit="of full scale",
    ),
    Rule(
        id="clip.narrow_band",
        severity=WARN,
        what="Above {measured:.0f} Hz the recording holds nothing, though at {rate} Hz it could hold up to "
        "{nyquist:g} Hz; less than {limit:.0%} of the band is there.",
        remedy="Record in the recorder's best quality, and send the file as recorded: not compressed, not converted "
        "from a lower rate.",
        limit="warn_band_ratio",
        reason="A file converted from a lower rate or from a compressed format lacks a band where faults may sound.",
        unit="Hz",
    ),
    Rule(
        id="clip.regions_beyond",
        severity=WARN,
        what="The anomaly regions reach to {measured:g} s, beyond the recording's end at {duration:.2f} s; what lies "
        "beyond was left out.",
        remedy="Write the regions in seconds from the recording's own start, and check that the file is the whole "
        "recording.",
        reason="Regions beyond the end may belong to another file, or be written in samples or milliseconds.",
        unit="s",
    ),
    Rule(
        id="clip.lost_energy",
        severity=WARN,
        what="{measured:.0%} of the recording's energy lies above {nyquist:g} Hz, where this machine type is not "
        "listened to; more than {allowed:.0%} may matter.",
        remedy="Nothing to do if the machine's own sound is below {nyquist:g} Hz; else ask for this machine type to be "
        "judged at a higher rate.",
        reason="What is resampled away cannot be heard any more, and a fault may live there.",
        unit="share",
    ),
    Rule(
        id="clip.other_sound",
        severity=WARN,
        what="The recording sounds like machine type {heard}, not like {machine_type}.",
        remedy="Check that the file belongs to this machine, and correct its machine type if that is wrong.",
        reason="Another machine's sound learnt as normal makes this one's an alarm. Nothing judges this yet: the rule"
        " is where such a judge will plug in.",
    ),
    Rule(
        id="clip.hum",
        severity=WARN,
        what="{measured:.0%} of the recording's energy is mains hum ({mains:g} Hz and its multiples), more than "
        "{limit:.0%}.",
        remedy="Check the cable's shield and the earthing, and keep the cable away from power lines. If the machine "
        "itself hums like this, nothing needs doing.",
        limit="warn_hum_ratio",
        reason="What a cable picks up says nothing of the machine, and covers what does.",
        unit="share",
        measure="hum_ratio",
        bound="most",
    ),
    Rule(
        id="clip.speech",
        severity=WARN,
        what="Somebody seems to speak in {measured:.0%} of the recording, more than {limit:.0%}.",
        remedy="Listen to it; where people can be understood, record again without them, or ask for their consent.",
        limit="warn_speech_ratio",
        reason="Recordings are kept and can be heard in the report; a voice is personal data.",
        unit="share",
        measure="speech_ratio",
        bound="most",
    ),
    # Clips against each other.
    Rule(
        id="clip.copy_train",
        severity=REJECT,
        what="The recording is an exact copy of {other}, which is already trained on.",
        remedy="Send each recording once: copies add nothing and make the threshold too tight.",
        reason="A copy makes the machine look more alike than it is, and the threshold too tight.",
    ),
    Rule(
        id="clip.copy",
        severity=WARN,
        what="The recording is an exact copy of {other}.",
        remedy="Send each recording once: copies weigh the figures twice.",
        reason="A copy counts twice in every figure.",
    ),
    Rule(
        id="clip.leak",
        severity=WARN,
        what="The recording is an exact copy of the training recording {other}: its score says nothing.",
        remedy="Test on recordings that are not trained on.",
        reason="A test on what was learnt only shows that it was learnt.",
    ),
    Rule(
        id="clip.contradiction",
        severity=REJECT,
        what="The same recording is a training normal here and a test anomaly in {other}.",
        remedy="Find out which of the two is right and correct the table.",
        reason="Either a fault is learnt as normal, or a normal is counted as a missed fault.",
    ),
    Rule(
        id="clip.two_labels",
        severity=WARN,
        what="The same recording is labelled otherwise in {other}.",
        remedy="Find out which of the two labels is right and correct the table.",
        reason="One of the two labels makes the figures wrong.",
    ),
    Rule(
        id="clip.near_copy_train",
        severity=REJECT,
        what="The recording is {other} once more ({measured:.0%} of it, shifted by {shift:.2f} s), re-encoded, at "
        "another level or cut otherwise; that one is already trained on.",
        remedy="Send each recording once, as it was recorded: copies add nothing and make the threshold too tight.",
        reason="A copy makes the machine look more alike than it is, and the threshold too tight.",
        unit="share",
    ),
    Rule(
        id="clip.near_copy",
        severity=WARN,
        what="The recording is {other} once more ({measured:.0%} of it, shifted by {shift:.2f} s), re-encoded, at "
        "another level or cut otherwise.",
        remedy="Send each recording once: copies weigh the figures twice.",
        reason="A copy counts twice in every figure.",
        unit="share",
    ),
    Rule(
        id="clip.near_leak",
        severity=WARN,
        what="The recording is the training recording {other} once more ({measured:.0%} of it, shifted by {shift:.2f} "
        "s), re-encoded, at another level or cut otherwise: its score says nothing.",
        remedy="Test on recordings that are not trained on.",
        reason="A test on what was learnt only shows that it was learnt.",
        unit="share",
    ),
    Rule(
        id="clip.near_contradiction",
        severity=REJECT,
        what="The recording is a training normal here and, re-encoded, at another level or cut otherwise "
        "({measured:.0%} of it), a test anomaly in {other}.",
        remedy="Find out which of the two is right and correct the table.",
        reason="Either a fault is learnt as normal, or a normal is counted as a missed fault.",
        unit="share",
    ),
    Rule(
        id="clip.near_two_labels",
        severity=WARN,
        what="The recording is {other} once more ({measured:.0%} of it), re-encoded, at another level or cut otherwise,"
        " and is labelled otherwise there.",
        remedy="Find out which of the two labels is right and correct the table.",
        reason="One of the two labels makes the figures wrong.",
        unit="share",
    ),
    Rule(
        id="clip.alike",
        severity=WARN,
        what="The recording agrees with {other} sample by sample over {measured:.0%} of the band, though not in its "
        "noise.",
        remedy="Check that it is not the same recording once more, processed; if the machine repeats a cycle that a "
        "trigger starts, nothing needs doing.",
        reason="A run-up that is repeated exactly sounds like a copy; only the noise tells the two apart.",
        unit="share",
    ),
    Rule(
        id="clip.overlap",
        severity=WARN,
        what="The recording shares {measured:.0%} of its length with {other}.",
        remedy="Cut long recordings into pieces that do not overlap.",
        reason="What two recordings share counts twice in every figure. Shared stretches of 4 s and more are sought in "
        "the first 300 s of a recording.",
        unit="share",
    ),
    # Clips against what the machine was taught before.
    Rule(
        id="clip.known_normal",
        severity=WARN,
        what="The machine learnt this recording as normal from an earlier package; here it is sent{hint} to be judged, "
        "and its score says nothing.",
        remedy="Judge other recordings; if this one is no normal, send word that it was learnt wrongly.",
        reason="A test on what was learnt only shows that it was learnt.",
    ),
    # An asset as a whole.
    Rule(
        id="asset.mixed_rates",
        severity=WARN,
        what="The recording is at {measured} Hz, while this machine's other recordings are mostly at {other} Hz: the "
        "band that one of them lacks sounds like a fault, or hides one.",
        remedy="Record a machine at one rate throughout, {standard} Hz or more, and send this recording again.",
        reason="A band that half of the recordings lack is the largest difference between them.",
        unit="Hz",
    ),
    Rule(
        id="asset.swapped_channels",
        severity=WARN,
        what="The channels seem to be in another order than in this machine's other recordings ({measured:.0f} dB "
        "closer if taken in the order {order}).",
        remedy="Plug the sensors as in the other recordings, and record again.",
        reason="Of an accelerometer another axis would be listened to.",
        unit="dB",
    ),
    Rule(
        id="asset.odd_level",
        severity=WARN,
        what="The level is {measured:.0f} dB away from the 2 nearest of this machine's other normals, more than "
        "{limit:g} dB and 3 times what is usual among them.",
        remedy="Find out whether the gain, the distance or the machine's state differed; leave it out if it is no "
        "normal recording.",
        limit="warn_odd_level_db",
        reason="What is learnt as normal is never an alarm again: one wrong recording blinds the machine's watch. "
        "Asked from 6 normals on: among fewer nobody can say which is the odd one.",
        unit="dB",
    ),
    Rule(
        id="asset.odd_spectrum",
        severity=WARN,
        what="It sounds unlike this machine's other normals: its spectrum is {measured:.0f} dB away from the 2 nearest,"
        " more than {limit:g} dB and 3 times what is usual among them.",
        remedy="Listen to it: is it the same machine, in a normal state? Leave it out if it is no normal recording; "
        "send more of the same kind if it is.",
        limit="warn_odd_spectrum_db",
        reason="What is learnt as normal is never an alarm again: one wrong recording blinds the machine's watch. "
        "Asked from 6 normals on: among fewer nobody can say which is the odd one.",
        unit="dB",
    ),
    Rule(
        id="asset.low_rate",
        severity=WARN,
        what="{count} of {total} recordings of {asset} are made at less than {asked} Hz, which the form asks for; the "
        "lowest rate is {measured} Hz.",
        remedy="Record at {asked} Hz or more from now on, all recordings of a machine at one rate.",
        reason="Above half its rate a recording holds nothing: a fault that sounds there is not heard.",
        unit="Hz",
    ),
    Rule(
        id="asset.short_clips",
        severity=WARN,
        what="{count} of {total} recordings of {asset} are shorter than the {clip_s} s that the form asks for; the "
        "shortest lasts {measured:.3g} s.",
        remedy="Record {clip_s} s at a stretch from now on.",
        reason="A short recording may miss part of the machine's cycle, and its measures vary more.",
        unit="s",
    ),
    Rule(
        id="asset.alike",
        severity=WARN,
        what="{asset} and {others} differ only in spaces, dashes, upper and lower case or leading zeros, and are taken "
        "for different machines.",
        remedy="If they are one machine, write its id in the same way everywhere, and send the package again.",
        reason="The normals of one machine under two ids are too few under each.",
    ),
    Rule(
        id="asset.normals",
        severity=REJECT,
        what="{asset} has {measured} good normal recordings of its own; it needs at least {limit}.",
        remedy="Record {missing} more of its normal running, {clip_s} s each, and send them together with those you "
        "have, in one package: a refused one is not learnt from. {recommended} in all are better.",
        limit="min_normals",
        reason="Fewer cannot be left out one by one and still say what normal is.",
        unit="recordings",
    ),
    Rule(
        id="asset.few_normals",
        severity=WARN,
        what="{asset} has {measured} good normal recordings of its own; {limit} are recommended.",
        remedy="Record {missing} more of its normal running, {clip_s} s each, when you can: the threshold gets firmer.",
        limit="recommended_normals",
        reason="With n normals no p-value below 1/(n + 1) can be shown.",
        unit="recordings",
    ),
)

RULES: Mapping[str, Rule] = MappingProxyType({rule.id: rule for rule in _TABLE})
"""Every rule by its id, in the order of the checks."""


def breaks_only_the_contract(reasons: Iterable[str]) -> bool:
    """Whether the rules that a clip breaks are of the table and the archive alone, and say nothing of its sound."""
    severities = {RULES[rule].severity for rule in reasons}
    return ERROR in severities and REJECT not in severities


def report(
    rule_id: str,
    *,
    limits: Settings | None = None,
    file: str | None = None,
    row: int | None = None,
    column: str | None = None,
    value: object = None,
    clip_id: str | None = None,
    **facts: object,
) -> Problem:
    """The problem that a failed rule makes at one place, in the rule's words.

    `limits` is needed by a rule that has a limit; `facts` fill the rule's templates, beside `asked_for`. Where no
    `value` is given, what the check `measured` is the value.
    """
    rule = RULES[rule_id]
    facts = asked_for() | facts
    if rule.limit is not None:
        facts["limit"] = getattr(limits, rule.limit)
    if "measured_db" in facts:
        facts["level"] = level(facts["measured_db"])
    facts = {name: visible(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
    column = printable(column)
    facts.setdefault("column", column)
    if value is None:
        value = _measured(rule, facts)
    return Problem(
        rule=rule.id,
        severity=rule.severity,
        message=rule.what.format(**facts),
        remedy=rule.remedy.format(**facts),
        file=printable(file),
        row=row,
        column=column,
        value=printable(value),
        clip_id=printable(clip_id),
    )


def asked_for() -> dict[str, str]:
    """What the forms ask a plant to record, as facts of every template: seconds a recording, kHz from and to."""
    low, high = rates_asked_for()
    clip_s = shared_quantity("clip_s")
    return {"clip_s": f"{clip_s:g}", "rate_low": f"{low / 1000:g}", "rate_high": f"{high / 1000:g}"}


def _measured(rule: Rule, facts: Mapping[str, object]) -> str | None:
    if "measured_db" in facts:
        # Of silence the sentence says it.
        return f"{facts['measured_db']:.0f} dBFS" if facts["measured_db"] != -math.inf else None
    return quantity(facts["measured"], rule.unit) if "measured" in facts else None


def quantity(value: object, unit: str) -> str:
    """A limit or a measured value as one reads it: `0.5 s`, `12.5 %`, `-60 dBFS`, `64`."""
    if not isinstance(value, int | float):
        return str(value)
    if unit == "share":
        return f"{100 * value:.3g} %"
    if unit == "dBFS":
        return f"{dbfs(value):.0f} dBFS"
    number = f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
    return f"{number} {unit}" if unit in _SYMBOLS else number


def level(measured_db: object) -> str:
    """A level in dBFS as one reads it."""
    return "digital silence" if measured_db == -math.inf else f"RMS {measured_db:.0f} dBFS"


def dbfs(amplitude: float) -> float:
    """A linear amplitude in decibels of full scale."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def printable(value: object) -> str | None:
    """A value as text that no terminal acts on, cut to length."""
    return None if value is None else visible(str(value)[:MAX_VALUE_CHARS])


def visible(text: str) -> str:
    """Text with control characters, marks that turn its direction and lone surrogates as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
