"""The exchange's side: its control port, its own books and its own trades.

Enters: the exchange's address. Leaves: fault counts, and what it published, read over REST, which no fault of the
suite strikes. Trades are read on from where the last reading ended.
"""

from __future__ import annotations

from typing import Any

import anyio
import httpx
from attrs import frozen

DEPTH = 10
READERS = 8


@frozen(kw_only=True)
class Published:
    """One public trade as the exchange has it; price and quantity as it writes them."""

    side: str
    price: str
    qty: str


@frozen(kw_only=True)
class Depth:
    """The best ten levels of each side, (price, quantity), best first."""

    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]


class Venue:
    """A running local exchange."""

    def __init__(self, rest_url: str, symbols: tuple[str, ...]) -> None:
        self.symbols = symbols
        self._client = httpx.AsyncClient(base_url=rest_url, timeout=30.0, trust_env=False)
        self._since_ns = dict.fromkeys(symbols, 0)

    async def close(self) -> None:
        await self._client.aclose()

    async def add_rules(self, script: str) -> list[int]:
        """Add fault rules; return their ids."""
        answer = await self._answer("POST", "/control/faults", content=script)
        return [int(number) for number in answer["ids"]]

    async def remove_rules(self) -> None:
        """Remove all fault rules."""
        await self._answer("DELETE", "/control/faults")

    async def fault_report(self) -> dict[str, Any]:
        """Return rules with their hits, and the log of hits."""
        return await self._answer("GET", "/control/faults")

    async def rest_refused(self, api_key: str) -> int:
        """Return how many private REST calls of a key the exchange itself refused for their rate."""
        limits = await self._answer("GET", "/control/limits")
        return int(limits["rest_calls_refused"].get(api_key, 0))

    async def step_clock(self, step_s: int) -> None:
        """Let the clock that clients see stand so many seconds beside the venue's own."""
        await self._answer("POST", "/control/clock", json={"step_s": step_s})

    async def set_mode(self, mode: str) -> None:
        """Change the mode of the engine; its flow rests in every mode but online."""
        await self._answer("POST", "/control/mode", json={"system": mode})

    async def depths(self, symbols: tuple[str, ...]) -> dict[str, Depth]:
        """Return the books of symbols as they stand."""
        found: dict[str, Depth] = {}

        async def read(symbol: str) -> None:
            rows = await self._result("Depth", pair=symbol, count=str(DEPTH))
            found[symbol] = Depth(bids=_levels(rows["bids"]), asks=_levels(rows["asks"]))

        await self._each(symbols, read)
        return found

    async def new_trades(self) -> dict[tuple[str, int], Published]:
        """Return the trades of all symbols since the last call, by symbol and id."""
        found: dict[tuple[str, int], Published] = {}

        async def read(symbol: str) -> None:
            answer = await self._answer(
                "GET",
                "/0/public/Trades",
                params={"pair": symbol, "since": str(self._since_ns[symbol]), "count": "1000"},
            )
            result = answer["result"]
            # One ns earlier: of two trades at one instant the second is read again, and known by its id.
            self._since_ns[symbol] = int(result.pop("last")) - 1
            (rows,) = result.values()
            for price, qty, _, side, _, _, trade_id in rows:
                found[symbol, trade_id] = Published(side={"b": "buy", "s": "sell"}[side], price=price, qty=qty)

        await self._each(self.symbols, read)
        return found

    async def _each(self, symbols: tuple[str, ...], read: Any) -> None:
        slots = anyio.CapacityLimiter(READERS)

        async def one(symbol: str) -> None:
            async with slots:
                await read(symbol)

        async with anyio.create_task_group() as tasks:
            for symbol in symbols:
                tasks.start_soon(one, symbol)

    async def _result(self, name: str, **params: str) -> dict[str, Any]:
        answer = await self._answer("GET", f"/0/public/{name}", params=params)
        (result,) = answer["result"].values()
        return dict(result)

    async def _answer(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        response = await self._client.request(method, path, **content)
        answer: dict[str, Any] = response.json()
        if response.is_error or answer.get("error"):
            raise ValueError(f"{method} {path}: {answer['error']}")
        return answer


def _levels(rows: list[list[Any]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(price), float(qty)) for price, qty, _ in rows)
