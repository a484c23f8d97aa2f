"""The `krakenbot` command, also as `python -m krakenbot`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line; Ctrl-C while its modules are still being loaded ends without a traceback."""
    try:
        from krakenbot.apps import cli  # noqa: PLC0415  # what takes the time
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    cli.main()


if __name__ == "__main__":
    main()
