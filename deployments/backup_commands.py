"""`alp backup`: what the store holds, and what lies beside it, kept elsewhere and given back."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr

from deployments.options import AsJson, CustomersFolder, StoreUrl, say, stderr
from schemas.errors import EnvironmentFault, StoreError, UsageError
from schemas.settings import Environment

if TYPE_CHECKING:
    from tasks.backup.catalogue import Backup
    from tasks.backup.keeping import Checked
    from tasks.store import ObjectStore

backup_app = typer.Typer(
    help="Back up the store and what lies beside it, restore it, hold backups against their checksums.",
    no_args_is_help=True,
)

Place = Annotated[
    str | None,
    typer.Argument(
        metavar="[PLACE]",
        help="Where backups lie: file:///path or s3://bucket/prefix?endpoint=…. [default: $ALP_BACKUP]",
        show_default=False,
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="Of the backup. [default: the newest]", show_default=False),
]

_SHOWN = 10


@backup_app.command()
def make(
    place: Place = None,
    store: StoreUrl = None,
    folder: CustomersFolder = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            "--also", metavar="FILE", help="Another file to keep with it, such as a dump of Prefect's database; repeat."
        ),
    ] = None,
    without_recordings: Annotated[
        bool,
        typer.Option("--without-recordings", help="Leave out what recorders dropped to be judged (recordings/)."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Back up the store, customers' files and the local platform's Prefect database, while runs go on."""
    from deployments.progress_bars import progress_bars
    from tasks.backup.files import files_beside, steady
    from tasks.backup.making import make_backup
    from tasks.customers import customers_folder
    from tasks.store import open_store

    shelf, url = _open(place), store or Environment().store
    with _platform_database() as database, tempfile.TemporaryDirectory(prefix="alp-") as copies:
        others = [*([database] if database is not None else []), *(also or [])]
        found = files_beside(customers_folder(folder), _retraining_file(), others)
        with steady(found, Path(copies)) as files, progress_bars(stderr):
            made = make_backup(
                open_store(url),
                shelf,
                files=files,
                settings=_settings(),
                without=("recordings/",) if without_recordings else (),
            )
    if as_json:
        counts = {"read": made.read, "written": made.written, "written_bytes": made.written_bytes}
        counts |= {"passed_over": list(made.passed_over)}
        _print_json({"place": shelf.url} | _document(made.backup) | counts)
        return
    say(f"Backup {made.backup.name}: {_amount(made.backup)}")
    say(f"Read {made.read} that are new or changed; {made.written} of them ({_size(made.written_bytes)}) were written")
    if made.passed_over:
        say(
            f"{len(made.passed_over)} files are not in it, {made.passed_over[0]} among them: a link, or a name that",
            "yellow",
        )
        say("no object has; put the file itself there, or rename it", "yellow")
    say(f"Hold it against its checksums: alp backup check '{shelf.url}'", "dim")


@backup_app.command("list")
def list_backups(place: Place = None, as_json: AsJson = False) -> None:
    """List the backups there are, the oldest first."""
    from tasks.backup.catalogue import backup_names, read_backup

    shelf = _open(place)
    backups, unreadable = [], {}
    for name in backup_names(shelf):
        try:
            backups.append(read_backup(shelf, name))
        except StoreError as error:
            unreadable[name] = str(error)
    if as_json:
        listed = [_document(each) for each in backups]
        _print_json({"place": shelf.url, "backups": listed, "unreadable": list(unreadable)})
        return
    for each in backups:
        say(f"{each.name}  {_amount(each)}, of {each.store}")
    for name, why in unreadable.items():
        say(f"{name}  {why}", "bold red")
    if not backups:
        say("There is no backup yet: alp backup make")


@backup_app.command()
def check(
    place: Place = None,
    name: Name = None,
    discard_damaged: Annotated[
        bool,
        typer.Option("--discard-damaged", help="Take damaged objects out, so that the next backup writes them again."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read all of a backup and hold it against its checksums; exit code 5 where something is damaged."""
    from deployments.progress_bars import progress_bars
    from tasks.backup.keeping import check_backup

    shelf = _open(place)
    with progress_bars(stderr):
        checked = check_backup(shelf, _pick(shelf, name), discard=discard_damaged)
    if as_json:
        counts = {"read": checked.objects, "damaged": list(checked.damaged), "discarded": checked.discarded}
        _print_json({"place": shelf.url, "name": checked.backup.name} | counts)
    else:
        _print_check(checked)
    if checked.damaged:
        raise typer.Exit(EnvironmentFault.exit_code)


@backup_app.command()
def restore(
    place: Place = None,
    name: Name = None,
    store: StoreUrl = None,
    files: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Where customers/, retraining.yaml and other files go."),
    ] = Path(),
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty store, and its files into a folder; one that was cut off goes on."""
    from deployments.progress_bars import progress_bars
    from tasks.backup.restoring import restore_backup
    from tasks.store import open_store

    shelf, url = _open(place), store or Environment().store
    with progress_bars(stderr):
        restored = restore_backup(shelf, _pick(shelf, name), open_store(url), folder=files)
    if as_json:
        lying = [str(path) for path in restored.files]
        _print_json({"store": url, "written": restored.written, "lying": lying} | _document(restored.backup))
        return
    say(f"Restored {restored.backup.name}: {_amount(restored.backup)}; {restored.written} objects were written")
    for path in restored.files:
        say(f"  {path}")
    for variable, value in restored.backup.settings.items():
        say(f"It was made with {variable}={value}", "dim")
    say("Next: alp deploy puts the customers on their schedules again, with this store", "dim")


@backup_app.command()
def forget(
    keep: Annotated[int, typer.Option(min=1, metavar="N", help="How many of the newest stay.", show_default=False)],
    place: Place = None,
    as_json: AsJson = False,
) -> None:
    """Forget all but the newest backups, and for good what only they held."""
    from deployments.progress_bars import progress_bars
    from tasks.backup.keeping import forget_backups

    shelf = _open(place)
    with progress_bars(stderr):
        gone = forget_backups(shelf, keep=keep)
    if as_json:
        counts = {"objects": gone.objects, "bytes": gone.bytes}
        _print_json({"place": shelf.url, "forgotten": list(gone.names), "kept": list(gone.kept)} | counts)
        return
    say(f"Forgot {', '.join(gone.names) or 'none'}, {gone.objects} objects ({_size(gone.bytes)}) with them")
    say(f"There are still {', '.join(gone.kept) or 'none'}", "dim")


def _open(place: str | None) -> ObjectStore:
    from tasks.backup.place import open_shelf

    url = place or Environment().backup
    if url is None:
        raise UsageError(
            "it is not said where backups lie: name the place, such as file:///srv/backup/alp or"
            " s3://alp-backup?endpoint=https://other-host:9000, or set ALP_BACKUP"
        )
    return open_shelf(url)


def _pick(shelf: ObjectStore, name: str | None) -> str:
    from tasks.backup.catalogue import check_name, pick_name

    return pick_name(shelf, None if name is None else check_name(name))


@contextmanager
def _platform_database() -> Iterator[Path | None]:
    """The Prefect database of the local platform, where this command uses that."""
    from deployments.platform_home import PlatformHome

    home = PlatformHome.find()
    is_used = home is not None and home.exists and os.environ.get("PREFECT_API_URL") == home.read().api
    database = home.data("prefect") / "prefect.db" if home is not None and is_used else None
    yield database if database is not None and database.is_file() else None


def _retraining_file() -> Path | None:
    from deployments.retraining import DEFAULT_FILE

    named = Environment().retraining
    return DEFAULT_FILE if named is None else Path(named)


def _settings() -> dict[str, str]:
    """`ALP_…` variables that are set and no secret, so that whoever restores knows them."""
    environment = Environment()
    values = {name: getattr(environment, name) for name in sorted(environment.model_fields_set)}
    return {f"ALP_{name.upper()}": str(value) for name, value in values.items() if not isinstance(value, SecretStr)}


def _document(backup: Backup) -> dict[str, Any]:
    document = backup.model_dump(mode="json", exclude={"table_sha256", "files"})
    return document | {"files": [file.name for file in backup.files]}


def _print_check(checked: Checked) -> None:
    if not checked.damaged:
        say(f"Backup {checked.backup.name} is whole: {checked.objects} objects were read, and are what they were")
        return
    say(f"Backup {checked.backup.name} is damaged: {len(checked.damaged)} objects are not what they were", "bold red")
    for key in checked.damaged[:_SHOWN]:
        say(f"  {key}")
    if len(checked.damaged) > _SHOWN:
        say(f"  … and {len(checked.damaged) - _SHOWN} more; --json names all")
    if checked.discarded:
        say(f"{checked.discarded} damaged objects were taken out; `alp backup make` writes them again")
    else:
        say("Where the store still has them: alp backup check --discard-damaged, then alp backup make", "yellow")


def _amount(backup: Backup) -> str:
    files = f" and {len(backup.files)} files" if backup.files else ""
    without = f", without {', '.join(backup.without)}" if backup.without else ""
    return f"{backup.objects} objects ({_size(backup.bytes)}){files}{without}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _print_json(document: dict[str, Any]) -> None:
    from deployments.printing import print_json

    print_json(document)
