"""Whether a service is well, as compose asks it: `python -m deployments.health http://127.0.0.1:4200/api/ready`.

Exit code 0 where the address answers with a success within five seconds, 1 otherwise, with the reason. Only the
standard library is imported, since it is asked every few seconds.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

_ANSWER_S = 5.0


def fault(url: str) -> str | None:
    """Why the address is not well; None where it is. No proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ANSWER_S):
            return None
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def main() -> None:
    """Ask the one address on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m deployments.health URL")
    found = fault(sys.argv[1])
    sys.exit(None if found is None else f"{sys.argv[1]}: {found}")


if __name__ == "__main__":
    main()
