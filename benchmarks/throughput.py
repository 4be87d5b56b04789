"""How fast a package is judged and standardized, and in how much memory, beside a plain loop over the same files.

`make bench` prints two tables. The *ratio*: clips a second through the gate, which hashes, checks, resamples and stores
every recording in one pass, and through `plain_loop`, which loads a file by librosa, asks the same questions one after
the other by the library's own functions, resamples and writes FLAC; both in a process of their own, the same files, all
cores. The *curve*: the largest resident memory of the gate at several sizes of package.

    python -m benchmarks.throughput --quick            100 clips only
    python -m benchmarks.throughput --sizes 100 1000   without the largest package (3.2 GB on disk)

The clips are 10 s of coloured noise and a tone at 16 kHz, 16 bits, each of its own, in a temporary folder.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000
CLIP_S = 10
SIZES = (100, 1000, 10_000)
COMPARED = 300
"""Clips that both are timed on: a package's table is read once, and the plain loop reads none."""
REPEATS = 3
SEED = 2024

HEADER = "relative_path,machine_type,section_id,confirmed_normal,confirmed_by,recorded_at,split,domain\n"


def write_package(path: Path, clips: int) -> None:
    """A package of so many different clips of one fan, nine of every ten of them source normals."""
    rng = np.random.default_rng(SEED)
    time_s = np.arange(CLIP_S * RATE, dtype=np.float32) / RATE
    tone = (0.02 * np.sin(2 * np.pi * 147 * time_s)).astype(np.float32)
    with zipfile.ZipFile(path, "w") as archive:
        rows = [
            f"audio/{i:05}.wav,fan,00,true,bench,2026-03-02,train,{'target' if i % 10 == 0 else 'source'}\n"
            for i in range(clips)
        ]
        archive.writestr("metadata.csv", HEADER + "".join(rows))
        for i in range(clips):
            noise = 0.05 * rng.standard_normal(len(tone) + 1, dtype=np.float32)
            archive.writestr(f"audio/{i:05}.wav", _wav(tone + noise[1:] + 0.7 * noise[:-1]))


def _wav(samples: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="WAV", subtype="PCM_16")
    return stream.getvalue()


# --- what is measured ---------------------------------------------------------------------------------------------


def run_gate(package: Path, store: Path, workers: int | None) -> int:
    """The gate as `alp onboard` runs it, standard clips stored; the number of clips that came out."""
    from schemas.references import Package
    from schemas.settings import OnboardSettings
    from tasks.packages import open_package
    from tasks.quality import judge
    from tasks.standard_clips import StandardClips
    from tasks.store import FolderStore

    settings = OnboardSettings()
    upload = Package(customer="bench", package_id="0" * 16, name=package.name, raw_key="raw", files=0, bytes=0)
    with open_package(package) as archive, StandardClips(FolderStore(store), upload, settings.standardize) as clips:
        accepted = judge(archive, settings, keep=clips.add, workers=workers).accepted_clips["relative_path"].tolist()
        return len(clips.table(accepted))


def run_plain_loop(folder: Path, out: Path, workers: int | None) -> int:
    """`plain_loop` over the files of a folder; the number of clips."""
    files = sorted(folder.glob("*.wav"))
    plain_loop(files, out)
    return len(files)


def plain_loop(files: Sequence[Path], out: Path) -> None:
    """Load, ask every question, resample, write: what one writes first, with the library's own functions."""
    import librosa

    for file in files:
        samples, rate = librosa.load(file, sr=None)
        for check in PLAIN_CHECKS:
            check(samples, rate)
        standard = librosa.resample(samples, orig_sr=rate, target_sr=RATE)
        soundfile.write(out / f"{file.stem}.flac", standard, RATE, subtype="PCM_24")


def _content(y: NDArray[np.float32], rate: float) -> Any:
    return hashlib.sha256(y.tobytes()).hexdigest()


def _finite(y: NDArray[np.float32], rate: float) -> Any:
    return bool(np.isfinite(y).all())


def _levels(y: NDArray[np.float32], rate: float) -> Any:
    return len(y) / rate, float(np.sqrt(np.mean(y**2))), float(np.abs(y).max()), float(y.mean())


def _clipping(y: NDArray[np.float32], rate: float) -> Any:
    flat = (np.diff(y) == 0) & (np.abs(y[1:]) >= 0.998 * np.abs(y).max())
    return float(np.mean(np.abs(y) >= 0.99997)), float(flat.mean())


def _bits(y: NDArray[np.float32], rate: float) -> Any:
    return len(np.unique(y))


def _silence(y: NDArray[np.float32], rate: float) -> Any:
    import librosa

    return len(librosa.effects.split(y, top_db=80))


def _dropouts(y: NDArray[np.float32], rate: float) -> Any:
    import librosa

    levels = librosa.feature.rms(y=y, frame_length=320, hop_length=320)
    return float((levels < 0.01 * np.median(levels)).mean())


def _band(y: NDArray[np.float32], rate: float) -> Any:
    import librosa

    return float(librosa.feature.spectral_rolloff(y=y, sr=rate, roll_percent=0.999).mean())


def _lost_energy(y: NDArray[np.float32], rate: float) -> Any:
    import librosa

    power = np.abs(librosa.stft(y)) ** 2
    return float(power[librosa.fft_frequencies(sr=rate) > RATE / 2].sum() / power.sum())


def _hum(y: NDArray[np.float32], rate: float) -> Any:
    import librosa

    power = (np.abs(librosa.stft(y, n_fft=1 << 15)) ** 2).mean(axis=1)
    step = rate / (1 << 15)
    return max(
        sum(power[round(f * k / step) - 1 : round(f * k / step) + 2].sum() for k in range(1, 13)) for f in (50, 60)
    ) / float(power.sum())


def _profile(y: NDArray[np.float32], rate: float) -> Any:
    import librosa

    return librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=rate, n_mels=32)).mean(axis=1)


def _fingerprint(y: NDArray[np.float32], rate: float) -> Any:
    import librosa

    return librosa.feature.mfcc(y=y, sr=rate)


def _speech(y: NDArray[np.float32], rate: float) -> Any:
    import librosa

    return librosa.yin(y, fmin=75, fmax=400, sr=rate)


PLAIN_CHECKS: tuple[Callable[[NDArray[np.float32], float], Any], ...] = (
    *(_content, _finite, _levels, _clipping, _bits, _silence, _dropouts),
    *(_band, _lost_energy, _hum, _profile, _fingerprint, _speech),
)
"""The gate's questions of one recording, each by itself."""


# --- one process each ---------------------------------------------------------------------------------------------

MEASURED = {"gate": run_gate, "plain": run_plain_loop}


def _work(arguments: argparse.Namespace) -> None:
    """Run one thing a few times and print its fastest: the first one imports, and others want the machine too."""
    run, taken = MEASURED[arguments.work], []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory(dir=arguments.source.parent) as out:
            began, cpu = time.perf_counter(), time.process_time()
            clips = run(arguments.source, Path(out), arguments.workers)
            taken.append((time.perf_counter() - began, time.process_time() - cpu))
    seconds, cpu = (min(each) for each in zip(*taken, strict=True))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"clips": clips, "seconds": seconds, "cpu": cpu, "peak_mb": peak_mb}))


def measure(work: str, source: Path, *, repeats: int = 1, workers: int | None = None) -> dict[str, float]:
    """What `work` on `source` took in a process of its own: clips, seconds and cpu seconds at best, MB."""
    command = [sys.executable, "-m", "benchmarks.throughput", "--work", work, "--source", str(source)]
    command += ["--repeats", str(repeats), *(["--workers", str(workers)] if workers else [])]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **one_thread})
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(folder: Path, clips: int) -> None:
    """Print the ratio between the gate and the plain loop on the same files."""
    package, files = folder / "compared.zip", folder / "compared"
    write_package(package, clips)
    files.mkdir()
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            if name.endswith(".wav"):
                (files / Path(name).name).write_bytes(archive.read(name))
    plain = measure("plain", files, repeats=REPEATS)
    print(f"{clips} clips of {CLIP_S} s, {os.cpu_count()} cores\n")
    print(f"{'':34}{'clips/s':>9}{'cpu ms/clip':>13}{'ratio':>8}{'ratio of cpu':>14}")
    _print_speed("librosa.load and a loop of checks", plain, plain)
    for workers in (1, 2, os.cpu_count() or 1):
        gate = measure("gate", package, repeats=REPEATS, workers=workers)
        _print_speed(f"alp, {workers} thread{'s'[: workers > 1]}", gate, plain)
        if workers >= (os.cpu_count() or 1):
            break


def _print_speed(name: str, found: dict[str, float], plain: dict[str, float]) -> None:
    speed, cpu = found["clips"] / found["seconds"], found["cpu"] / found["clips"]
    ratio = speed * plain["seconds"] / plain["clips"]
    cpu_ratio = plain["cpu"] / plain["clips"] / cpu
    print(f"{name:34}{speed:9.1f}{1000 * cpu:13.1f}{ratio:8.1f}{cpu_ratio:14.1f}", flush=True)


def trace_memory(folder: Path, sizes: Sequence[int]) -> None:
    """Print the gate's largest resident memory for every size of package."""
    print(f"\n{'clips':>8}{'package':>11}{'seconds':>10}{'clips/s':>9}{'peak memory':>13}")
    for clips in sizes:
        package = folder / "curve.zip"
        write_package(package, clips)
        found = measure("gate", package)
        size, speed = package.stat().st_size / 1e6, found["clips"] / found["seconds"]
        memory = f"{found['peak_mb']:,.0f} MB"
        print(f"{clips:8,}{size:8,.0f} MB{found['seconds']:10.1f}{speed:9.1f}{memory:>13}", flush=True)
        package.unlink()


def main() -> None:
    """Print both tables, or do one process's work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 clips only")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="packages of the memory curve")
    parser.add_argument("--work", choices=MEASURED, help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        _work(arguments)
        return
    with tempfile.TemporaryDirectory(prefix="alp-bench-") as folder:
        compare(Path(folder), 30 if arguments.quick else COMPARED)
        trace_memory(Path(folder), SIZES[:1] if arguments.quick else arguments.sizes)


if __name__ == "__main__":
    main()
