"""What the processes of a rehearsal are given: accounts, keys, settings files and credentials.

Leaves: files with mode 0600 in the rehearsal's own folder. No secret is on a command line or in an environment.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import frozen

from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.apps.settings_loader import to_toml

ACCOUNT = "trader"
QUOTE = "USD"
DEPOSIT = Decimal(25_000)
OVERRIDES: dict[str, Any] = {
    "windows.short_s": 10.0,
    "windows.medium_s": 20.0,
    "windows.long_s": 40.0,
    "windows.complete_after_s": 10.0,
    "decision.edge.allow_prior": True,
}
"""Window lengths and warm-up, so that a minute is enough; never a floor, a hurdle or a risk limit."""

_TRADE = [
    "query-funds",
    "query-open-trades",
    "query-closed-trades",
    "query-ledger",
    "modify-trades",
    "close-trades",
    "create-ws-token",
]
_LEVEL3 = ["create-ws-token"]


@frozen(kw_only=True)
class KeyPair:
    """An API key of the local exchange."""

    key: str
    secret: str


def new_key_pair() -> KeyPair:
    """Make a random key of the form that Kraken's have."""
    return KeyPair(
        key=base64.b64encode(secrets.token_bytes(42)).decode(),
        secret=base64.b64encode(secrets.token_bytes(64)).decode(),
    )


def write_accounts(path: Path, ingest: KeyPair, execution: KeyPair) -> None:
    """Write the exchange's account file: one account, one key for level3 and one that trades."""
    account = {
        "name": ACCOUNT,
        "keys": [
            {"api_key": ingest.key, "api_secret": ingest.secret, "permissions": _LEVEL3},
            {"api_key": execution.key, "api_secret": execution.secret, "permissions": _TRADE},
        ],
        "balances": {QUOTE: str(DEPOSIT)},
    }
    write_private(path, json.dumps([account]))


def write_settings(
    path: Path, ready: Mapping[str, Any], data_dir: Path, overrides: Mapping[str, Any] = OVERRIDES
) -> None:
    """Write the settings file of ingest and execution: endpoints, universe, capital, and the overrides."""
    tree: dict[str, Any] = {
        "process": {"data_dir": str(data_dir), "log_format": "json"},
        "venue": {name: ready[name] for name in ("rest_url", "ws_public_url", "ws_private_url", "ws_level3_url")},
        "ingest": {"symbols": list(ready["symbols"])},
        "execution": {"capital_limit_quote": str(DEPOSIT)},
    }
    for key, value in overrides.items():
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    write_private(path, to_toml(tree))


def write_process_credentials(
    folder: Path,
    ingest_cluster: EmbeddedCluster,
    decision_cluster: EmbeddedCluster,
    ingest: KeyPair,
    execution: KeyPair,
) -> None:
    """Write what ingest and what execution may know, each into a folder of its own."""
    write_credentials(
        _credentials_folder(folder, "ingest"),
        {
            "database_url": ingest_cluster.url(Login.INGEST),
            "decision_database_url": decision_cluster.url(Login.INGEST),
            "ingest_api_key": ingest.key,
            "ingest_api_secret": ingest.secret,
        },
    )
    write_credentials(
        _credentials_folder(folder, "execution"),
        {
            "decision_database_url": decision_cluster.url(Login.EXECUTION),
            "execution_api_key": execution.key,
            "execution_api_secret": execution.secret,
        },
    )


def credentials_environment(folder: Path, process: str) -> dict[str, str]:
    """Return the variable that shows "ingest" or "execution" its own credentials."""
    return {"CREDENTIALS_DIRECTORY": str(_credentials_folder(folder, process))}


def write_credentials(folder: Path, values: Mapping[str, str]) -> None:
    """Write one credential a file, as systemd lays them out."""
    folder.mkdir(mode=0o700)
    for name, value in values.items():
        write_private(folder / name, value)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _credentials_folder(folder: Path, process: str) -> Path:
    return folder / f"{process}-credentials"
