"""What a rehearsal hands to its processes: private files, and production settings but for windows and warm-up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from krakenbot.adapters.local_exchange.keys import parse_accounts
from krakenbot.apps.rehearsal import setup
from krakenbot.apps.settings import Settings, load_settings

READY = {
    "rest_url": "http://127.0.0.1:9",
    "ws_public_url": "ws://127.0.0.1:9/public/v2",
    "ws_private_url": "ws://127.0.0.1:9/private/v2",
    "ws_level3_url": "ws://127.0.0.1:9/level3/v2",
    "symbols": ["BTC/USD", "ETH/USD"],
}
ALLOWED = ("windows.", "decision.edge.min_labels", "decision.edge.allow_prior")


def plain(settings: object) -> dict[str, object]:
    found: dict[str, object] = {}

    def walk(node: Any, path: tuple[str, ...]) -> None:
        for field in attrs.fields(type(node)):
            value = getattr(node, field.name)
            if attrs.has(type(value)):
                walk(value, (*path, field.name))
            else:
                found[".".join((*path, field.name))] = value

    walk(settings, ())
    return found


def test_the_settings_file_changes_windows_and_warm_up_only_and_all_of_it_is_listed(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    setup.write_settings(file, READY, tmp_path)

    settings, sources = load_settings(file, {})
    defaults, written = plain(Settings()), plain(settings)
    changed = {key for key in written if key in defaults and written[key] != defaults[key]}
    wiring = {key for key in changed if key.startswith(("process.", "venue."))} | {"ingest.symbols"}

    assert changed - wiring == set(setup.OVERRIDES)
    assert all(key.startswith(ALLOWED) for key in setup.OVERRIDES)
    assert {key: written[key] for key in setup.OVERRIDES} == setup.OVERRIDES
    assert {key for key in sources if key.startswith("execution.")} == {"execution.capital_limit_quote"}
    assert settings.require_execution().capital_limit_quote == setup.DEPOSIT
    assert settings.venue.ws_level3_url == READY["ws_level3_url"]
    assert settings.ingest.symbols == ("BTC/USD", "ETH/USD")


def test_files_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    setup.write_settings(tmp_path / "settings.toml", READY, tmp_path)
    setup.write_accounts(tmp_path / "accounts.json", setup.new_key_pair(), setup.new_key_pair())
    setup.write_credentials(tmp_path / "credentials", {"database_url": "postgresql://x/y"})

    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}

    assert modes == {"settings.toml": 0o600, "accounts.json": 0o600, "credentials": 0o700, "database_url": 0o600}


def test_the_settings_file_holds_no_secret(tmp_path: Path) -> None:
    setup.write_settings(tmp_path / "settings.toml", READY, tmp_path)

    text = (tmp_path / "settings.toml").read_text()

    assert "keys" not in text
    assert "database" not in text


def test_the_exchange_reads_the_accounts_and_only_one_key_trades(tmp_path: Path) -> None:
    ingest, execution = setup.new_key_pair(), setup.new_key_pair()
    setup.write_accounts(tmp_path / "accounts.json", ingest, execution)

    (account,) = parse_accounts((tmp_path / "accounts.json").read_text())
    permissions = {key.api_key: key.permissions for key in account.keys}

    assert account.balances == {"USD": setup.DEPOSIT}
    assert "modify-trades" in permissions[execution.key]
    assert permissions[ingest.key] == {"create-ws-token"}
    assert json.loads((tmp_path / "accounts.json").read_text())[0]["name"] == setup.ACCOUNT


def test_keys_differ_each_time() -> None:
    one, two = setup.new_key_pair(), setup.new_key_pair()

    assert len({one.key, one.secret, two.key, two.secret}) == 4
    assert len(one.key) == 56
    assert len(one.secret) == 88
