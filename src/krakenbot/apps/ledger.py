"""`krakenbot ledger accept`: a person takes a difference that the venue's ledger does not explain upon himself.

Enters: asset, reason, who. Leaves: a row that execution applies at its next look if the difference is still that one.
The amount is the one that execution last published, so nobody accepts a number that he did not see.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from psycopg import AsyncConnection

from krakenbot.adapters.postgres.databases import EXECUTION_ROLE
from krakenbot.adapters.postgres.embedded import Login
from krakenbot.adapters.postgres.ledger_store import PostgresLedgerStore
from krakenbot.apps.databases import decision_database
from krakenbot.apps.settings import Settings
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.values import Asset, VenueId

_STATUS = "SELECT body FROM process_status WHERE process = 'execution'"
_TEXT_MAX = 1000


async def accept_difference(settings: Settings, *, asset: str, reason: str, who: str | None) -> None:
    """Write the acceptance down and say what happens next; raises ConfigError for what cannot be accepted."""
    reason = _text("--reason", reason)
    by = _text("--by", _this_user() if who is None else who)
    wanted = Asset(asset.strip().upper())
    async with decision_database(settings, Login.OWNER, name="ledger", role=EXECUTION_ROLE) as database:
        status = await database.read(_status)
        amounts = _ledger(status).get("unexplained_amounts", {})
        if wanted not in amounts:
            shown = ", ".join(f"{name} {amount}" for name, amount in sorted(amounts.items())) or "nothing"
            raise ConfigError(f"--asset {asset}: no difference of it is known; not explained is {shown}")
        store = PostgresLedgerStore(database)
        made = await store.accept(VenueId(str(status["venue_id"])), wanted, Decimal(str(amounts[wanted])), by, reason)
    print(f"accepted {made.amount:f} {wanted} as {by}: {reason}")
    print("execution looks again within a minute; if the difference is still this one, entries go on")


def _text(option: str, text: str) -> str:
    found = text.strip()
    if not found or len(found) > _TEXT_MAX or not found.isprintable():
        raise ConfigError(f"{option}: write one line of 1 to {_TEXT_MAX} characters")
    return found


def _this_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise ConfigError("--by: this login has no name, so say who accepts") from None


def _ledger(status: Mapping[str, Any]) -> Mapping[str, Any]:
    found = status.get("ledger", {})
    return found if isinstance(found, Mapping) else {}


async def _status(connection: AsyncConnection) -> dict[str, Any]:
    row = await (await connection.execute(_STATUS)).fetchone()
    if row is None:
        raise ConfigError("no execution has run on this database, so no difference is known")
    return dict(row[0])
