"""Say where an exchange listens: on standard output for a person, in the ready file for a program.

`krakenbot exchange` calls it once the port is open, and takes the ready file back when it ends.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from krakenbot.adapters.local_exchange.keys import AccountEntry
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.server import Endpoints
from krakenbot.apps.exchange_options import ExchangeOptions


def announce(options: ExchangeOptions, endpoints: Endpoints, built: Exchange, entries: list[AccountEntry]) -> None:
    """Print where the exchange listens and what its flow is made of, and write the ready file."""
    parameters = built.venue.flow.parameters() if built.venue.flow else {}
    ready: dict[str, Any] = {
        "host": endpoints.host,
        "port": endpoints.port,
        **endpoints.urls(),
        "symbols": list(built.venue.markets),
        "flow": {"kind": options.flow, "profile": options.profile, "seed": options.seed, "parameters": parameters},
        "pid": os.getpid(),
    }
    if options.accounts is None:
        key = entries[0].keys[0]
        secret = base64.b64encode(key.secret).decode()
        ready |= {"api_key": key.api_key, "api_secret": secret}
        print(f"demo account: API key {key.api_key} secret {secret}", flush=True)
    urls = " ".join(f"{name.removesuffix('_url')}={url}" for name, url in endpoints.urls().items())
    print(f"local exchange: {urls}", flush=True)
    for line in flow_lines(options, parameters):
        print(line, flush=True)
    if options.ready_file is not None:
        _write_atomically(options.ready_file, ready)


def withdraw_ready_file(path: Path) -> None:
    """Remove the ready file at the end, unless another exchange has written its own in the meantime."""
    with suppress(OSError, ValueError):
        if json.loads(path.read_bytes()).get("pid") == os.getpid():
            path.unlink()


def flow_lines(options: ExchangeOptions, parameters: Mapping[str, Any]) -> list[str]:
    """Return the flow's parameters for a person: one value where all symbols share it, else lowest to highest."""
    values: dict[str, set[Any]] = {}
    for numbers in parameters.get("symbols", {}).values():
        for name, number in numbers.items():
            values.setdefault(name, set()).add(number["value"])
    texts = [f"{name} {_span(found)}" for name, found in values.items() if found != {None}]
    head = f"flow {options.flow}, profile {options.profile}, seed {options.seed}; {parameters.get('notice', '')}"
    return [head, *(f"  {', '.join(texts[start : start + 6])}" for start in range(0, len(texts), 6))]


def _span(values: set[Any]) -> str:
    numbers = sorted(value for value in values if value is not None)
    shown = [f"{number:.4g}" if isinstance(number, float) else str(number) for number in (numbers[0], numbers[-1])]
    return shown[0] if len(numbers) == 1 else f"{shown[0]} to {shown[1]}"


def _write_atomically(path: Path, content: Mapping[str, Any]) -> None:
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w") as file:
            json.dump(content, file)
        Path(temporary).replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
