"""The execution process as `krakenbot run-execution-only` starts it, with its ports wrapped: `python -m` this module.

Enters: the arguments of `run-execution-only`, and the file named by STRIKES. Leaves: the same process, struck at the
points that the file names. Engine, adapters, settings and container are production's; what is added is a decorator
around each port, and a clock that SIGUSR1 puts an hour forward and SIGUSR2 an hour back.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.faults.orders.strike import Counter, Orders, Strike

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.apps import cli, processes
from krakenbot.apps.container import ExecutionContainer
from krakenbot.domain.engine.supervise import ExecutionEngine
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.reports import ExecutionBatch

WRAPPED = {
    "gateway": "gateway",
    "order_store": "store",
    "query": "query",
    "lease": "lease",
    "execution_feed": "feed",
    "journal": "journal",
}
HOUR_S = 3600


class Striker:
    """Notes a point that was hit, then acts."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._counter = Counter(orders.strikes)

    def pass_by(self, point: str, values: tuple[Any, ...]) -> None:
        for strike in self._counter.due(point, labels(values)):
            with self._orders.hits.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"point": strike.text, "action": strike.action, "pid": os.getpid()}) + "\n")
            self._act(strike)

    def _act(self, strike: Strike) -> None:
        match strike.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "terminate":
                os.kill(os.getpid(), signal.SIGTERM)
            case "rules":
                body = "\n".join(strike.rules).encode()
                # Blocking on purpose: nothing of this process goes on before the exchange has the rules.
                urllib.request.urlopen(f"{self._orders.control_url}/control/faults", body, timeout=10).close()  # noqa: S310  # loopback
            case "note":
                pass


def labels(values: tuple[Any, ...]) -> set[str]:
    """Return what a call is about: roles of its orders, events, whether it holds a fill or closes an order."""
    found: set[str] = set()
    for value in values:
        match value:
            case Order():
                found.add(str(value.role))
            case OrderChange():
                found |= {str(event.event) for event in value.events}
                found |= {str(order.role) for order in value.orders}
                found |= {"fill"} if value.fills else set()
                found |= {"row"} if value.inserts else set()
                found |= {"closed"} if any(order.state.is_terminal for order in value.orders) else set()
            case ExecutionBatch():
                found |= {str(report.exec_type) for report in value.reports}
                found |= {"snapshot"} if value.is_snapshot else set()
            case str():
                found |= {"entry"} if value.startswith("kbe") else {"exit"} if value.startswith("kb") else set()
    return found


class WrappedPort:
    """A port with a point before and after each of its calls."""

    def __init__(self, port: Any, name: str, striker: Striker) -> None:
        self._port = port
        self._name = name
        self._striker = striker

    def __getattr__(self, method: str) -> Any:
        value = getattr(self._port, method)
        if (self._name, method) == ("feed", "open"):
            return self._opened
        if inspect.ismethod(value) and not inspect.iscoroutinefunction(value):
            return self._plain(method, value)
        if not inspect.iscoroutinefunction(value):
            return value

        async def call(*values: Any, **named: Any) -> Any:
            given = (*values, *named.values())
            self._striker.pass_by(f"{self._name}.{method}:before", given)
            answer = await value(*values, **named)
            self._striker.pass_by(f"{self._name}.{method}:after", given)
            return answer

        return call

    def _plain(self, method: str, value: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            given = (*values, *named.values())
            self._striker.pass_by(f"{self._name}.{method}:before", given)
            answer = value(*values, **named)
            self._striker.pass_by(f"{self._name}.{method}:after", given)
            return answer

        return call

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Any]:
        self._striker.pass_by(f"{self._name}.open:before", ())
        async with self._port.open() as batches:
            yield self._struck(batches)

    async def _struck(self, batches: AsyncIterator[ExecutionBatch]) -> AsyncIterator[ExecutionBatch]:
        async for batch in batches:
            self._striker.pass_by(f"{self._name}.batch:before", (batch,))
            yield batch
            self._striker.pass_by(f"{self._name}.batch:after", (batch,))


class SteppedClock(SystemClock):
    """The system's clock with a wall time that steps when a signal comes."""

    step_s = 0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.step_s)

    def now_ns(self) -> int:
        return super().now_ns() + self.step_s * 10**9


def _step_on_signals() -> None:
    def step(number: int, _frame: object) -> None:
        SteppedClock.step_s += HOUR_S if number == signal.SIGUSR1 else -HOUR_S

    signal.signal(signal.SIGUSR1, step)
    signal.signal(signal.SIGUSR2, step)


def main() -> None:
    orders = Orders.read(Path(os.environ["STRIKES"]))  # noqa: TID251  # how a test entry point is told
    striker = Striker(orders)

    class StruckEngine(ExecutionEngine):
        def __init__(self, **ports: Any) -> None:
            super().__init__(**dict(_wrapped(ports, striker)))

    ExecutionContainer.engine.set_provides(StruckEngine)
    vars(processes)["SystemClock"] = SteppedClock
    _step_on_signals()
    cli.main()


def _wrapped(ports: dict[str, Any], striker: Striker) -> Iterator[tuple[str, Any]]:
    for name, port in ports.items():
        is_wrapped = name in WRAPPED and port is not None
        yield name, WrappedPort(port, WRAPPED[name], striker) if is_wrapped else port


if __name__ == "__main__":
    main()
