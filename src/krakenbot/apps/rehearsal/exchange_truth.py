"""The exchange's own book of a rehearsal, from its control port. It never looks at the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import httpx

from krakenbot.apps.rehearsal.books import CANCELED, EXPIRED, FILLED, OPEN, FillLine, OrderLine, TradingBook
from krakenbot.domain.errors import VenueUnavailable

_STATUS = {"filled": FILLED, "canceled": CANCELED, "expired": EXPIRED}


async def fetch_truth(rest_url: str, timeout_s: float = 10.0) -> dict[str, Any]:
    """Ask the exchange what it knows; raises VenueUnavailable."""
    try:
        async with httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client:
            response = await client.get(f"{rest_url}/control/truth")
            response.raise_for_status()
            return dict(response.json())
    except httpx.HTTPError as exc:
        raise VenueUnavailable(f"the exchange did not state its record: {exc!r}") from exc


def exchange_book(truth: Mapping[str, Any], account_name: str, deposited: Mapping[str, Decimal]) -> TradingBook:
    """Make the exchange's book of one account; balances count as changes from what was deposited.

    Orders without an id of a client keep the exchange's own id, so that they show as not in the ledger.
    """
    account = next(account for account in truth["accounts"] if account["name"] == account_name)
    changes = {
        asset: Decimal(amount) - deposited.get(asset, Decimal(0)) for asset, amount in account["balances"].items()
    }
    return TradingBook(
        orders={
            (key := order["cl_ord_id"] or order["order_id"]): OrderLine(
                cl_ord_id=key, status=_STATUS.get(order["status"], OPEN), cum_qty=Decimal(order["filled_qty"])
            )
            for order in account["orders"]
        },
        fills={
            fill["exec_id"]: FillLine(
                exec_id=fill["exec_id"],
                cl_ord_id=fill["cl_ord_id"] or fill["order_id"],
                price=Decimal(fill["price"]),
                qty=Decimal(fill["qty"]),
                fee=Decimal(fill["fee"]),
                fee_asset=fill["fee_asset"],
            )
            for fill in account["fills"]
        },
        balance_changes={asset: change for asset, change in changes.items() if change},
    )
