"""`python -m krakenbot` is the `krakenbot` command."""

from __future__ import annotations

from krakenbot.apps.cli import main

if __name__ == "__main__":
    main()
