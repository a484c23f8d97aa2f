"""Where a process of ours is struck from within: named points before and after each call of a port.

Enters: strikes, written by the suite into a file. Leaves: a file with one line per point that was hit, written before
the strike, so that it is there after kill -9. Both sides of the file use this module; production code knows neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from attrs import asdict, frozen

Action = Literal["kill", "stop", "terminate", "rules", "note"]


@frozen(kw_only=True)
class Strike:
    """At the `nth` passing of a point do something to the process that passes it, or to the exchange.

    `point` is port.method:before or port.method:after. `only` is a label that the call must carry: a role, an event,
    "row", "fill" or "closed". `kill` and `stop` are SIGKILL and SIGSTOP, `terminate` is SIGTERM; `rules` adds `rules`
    at the exchange and goes on; `note` does nothing more.
    """

    point: str
    action: Action = "kill"
    only: str = ""
    nth: int = 1
    rules: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return the point in words."""
        what = self.point + (f" of {self.only}" if self.only else "")
        return what + (f", time {self.nth}" if self.nth > 1 else "")


@frozen(kw_only=True)
class Orders:
    """What a process is told: its strikes, where to note them, where the exchange's control port is."""

    strikes: tuple[Strike, ...]
    hits: Path
    control_url: str

    def write(self, path: Path) -> None:
        body = asdict(self) | {"hits": str(self.hits)}
        path.write_text(json.dumps(body), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Orders:
        body = json.loads(path.read_text(encoding="utf-8"))
        strikes = tuple(Strike(**row | {"rules": tuple(row["rules"])}) for row in body["strikes"])
        return cls(strikes=strikes, hits=Path(body["hits"]), control_url=body["control_url"])


def read_hits(path: Path) -> list[dict[str, Any]]:
    """Return what was hit so far, oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Counter:
    """Counts passings of points; says which strikes are due at one."""

    def __init__(self, strikes: Sequence[Strike]) -> None:
        self._left = [[strike, 0] for strike in strikes]

    def due(self, point: str, labels: Iterable[str]) -> list[Strike]:
        """Return the strikes that this passing sets off; each strikes once."""
        labels = set(labels)
        found: list[Strike] = []
        for row in self._left:
            strike: Strike = row[0]  # type: ignore[assignment]
            if strike.point != point or (strike.only and strike.only not in labels):
                continue
            row[1] += 1  # type: ignore[operator]
            if row[1] == strike.nth:
                found.append(strike)
        return found
