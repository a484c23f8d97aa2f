"""Give ccxt.pro, with its checksum option on, one book frame as Kraken sends it; print what comes of it.

Run by the client's own interpreter with one argument, the frame as JSON. No exchange is needed.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import ccxt.pro  # type: ignore[import-not-found]


def main(frame: str) -> str:
    exchange = ccxt.pro.kraken({"options": {"watchOrderBook": {"checksum": True}}})
    answers: list[str] = []
    client = SimpleNamespace(
        subscriptions={"orderbook@BTC/USD": {}},
        resolve=lambda *_: answers.append("accepted"),
        reject=lambda error, *_: answers.append(type(error).__name__),
    )
    try:
        exchange.handle_message(client, json.loads(frame))
    except (AttributeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ",".join(answers)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
