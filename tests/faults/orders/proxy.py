"""Stand between execution and its PostgreSQL on a Unix socket, and strike at a statement.

Enters: the folder of the cluster's socket, and a `Cut`. Leaves: the folder of a socket of its own, and what was hit.
The wire protocol is read just far enough to know which statement passes (PostgreSQL documentation, chapter
"Frontend/Backend Protocol"): texts of Query and Parse, names in Bind and Execute, the backend's process id.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from attrs import define, field, frozen

SOCKET = ".s.PGSQL.5432"
CANCEL_REQUEST = 80877102
Where = Literal["before", "after", "answered"]


@frozen(kw_only=True)
class Cut:
    """At the `nth` statement whose text holds `text`, in a transaction that holds `inside`, do something.

    `before`: the statement has not reached the server; `after`: it has been passed on; `answered`: the server has
    answered, and the answer is not passed on.
    """

    text: str
    where: Where
    inside: str = ""
    nth: int = 1

    @property
    def name(self) -> str:
        place = f" of a transaction with '{self.inside}'" if self.inside else ""
        return f"{self.where} '{self.text}'{place}" + (f", time {self.nth}" if self.nth > 1 else "")


@frozen(kw_only=True)
class Caught:
    """The connection at which a cut struck: its backend, and how to break it off."""

    backend_pid: int
    abort: Callable[[], None]


@define
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    backend_pid: int = 0
    prepared: dict[bytes, str] = field(factory=dict)
    portals: dict[bytes, str] = field(factory=dict)
    transaction: list[str] = field(factory=list)
    is_held: bool = False
    """What the server answers from now on is kept back."""
    caught: asyncio.Event = field(factory=asyncio.Event)
    answered: asyncio.Event = field(factory=asyncio.Event)


class Proxy:
    """One proxy on one cluster. `on_strike` runs when the cut strikes; until it returns, that connection waits."""

    def __init__(self, upstream: Path, folder: Path) -> None:
        self.folder = folder
        self._upstream = upstream
        self._cut: Cut | None = None
        self._on_strike: Callable[[Caught], Awaitable[None]] | None = None
        self._passed = 0
        self.hits: list[str] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: list[_Connection] = []

    async def start(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.folder / SOCKET)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            _abort(connection)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, cut: Cut, on_strike: Callable[[Caught], Awaitable[None]]) -> None:
        """Strike once, as a cut says."""
        self._cut, self._on_strike, self._passed = cut, on_strike, 0

    def disarm(self) -> None:
        self._cut = None

    def drop_all(self) -> None:
        """Break off every connection."""
        for connection in self._connections:
            _abort(connection)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(self._upstream / SOCKET)
        except OSError:
            writer.close()
            return
        connection = _Connection(writer, up_writer)
        self._connections.append(connection)
        try:
            await asyncio.gather(self._forward(reader, connection), self._backward(up_reader, connection))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            _abort(connection)
            self._connections.remove(connection)

    async def _forward(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        """Read the client's messages, and pass them on, struck or not."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            first = await reader.readexactly(8)
            length, code = struct.unpack("!II", first)
            connection.server.write(first + await reader.readexactly(length - 8))
            while code != CANCEL_REQUEST:
                kind = await reader.readexactly(1)
                size = await reader.readexactly(4)
                body = await reader.readexactly(struct.unpack("!I", size)[0] - 4)
                text = _statement(kind, body, connection)
                cut = self._due(text, connection) if text else None
                if cut is None:
                    connection.server.write(kind + size + body)
                    await connection.server.drain()
                else:
                    await self._strike(cut, kind + size + body, connection)
        connection.server.close()

    def _due(self, text: str, connection: _Connection) -> Cut | None:
        if text.startswith("BEGIN"):
            connection.transaction.clear()
        connection.transaction.append(text)
        cut = self._cut
        if cut is None or cut.text not in text:
            return None
        if cut.inside and not any(cut.inside in passed for passed in connection.transaction):
            return None
        self._passed += 1
        if self._passed != cut.nth:
            return None
        self._cut = None
        return cut

    async def _strike(self, cut: Cut, message: bytes, connection: _Connection) -> None:
        if cut.where != "before":
            connection.is_held = cut.where == "answered"
            # The server carries an Execute out when a Sync or Flush follows it.
            connection.server.write(message if message[:1] == b"Q" else message + b"S\x00\x00\x00\x04")
            await connection.server.drain()
        if cut.where == "answered":
            await asyncio.wait_for(connection.answered.wait(), 10)
        strike = self._on_strike
        if strike is not None:
            await strike(Caught(backend_pid=connection.backend_pid, abort=lambda: _abort(connection)))
        self.hits.append(cut.name)

    async def _backward(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        """Read the server's messages, and pass them on unless they are held."""
        while True:
            try:
                kind = await reader.readexactly(1)
                size = await reader.readexactly(4)
                body = await reader.readexactly(struct.unpack("!I", size)[0] - 4)
            except asyncio.IncompleteReadError:
                connection.client.close()
                return
            if kind == b"K":
                connection.backend_pid = struct.unpack("!I", body[:4])[0]
            if not connection.is_held:
                connection.client.write(kind + size + body)
                await connection.client.drain()
            elif kind == b"Z":
                connection.answered.set()


def _statement(kind: bytes, body: bytes, connection: _Connection) -> str:
    """Return the text of the statement that a message has carried out; empty for all other messages."""
    match kind:
        case b"Q":
            return body.rstrip(b"\0").decode(errors="replace").strip()
        case b"P":
            name, text, _ = body.split(b"\0", 2)
            connection.prepared[name] = text.decode(errors="replace").strip()
        case b"B":
            portal, name, _ = body.split(b"\0", 2)
            connection.portals[portal] = connection.prepared.get(name, "")
        case b"E":
            return connection.portals.get(body.split(b"\0", 1)[0], "")
        case _:
            pass
    return ""


def _abort(connection: _Connection) -> None:
    for writer in (connection.client, connection.server):
        with contextlib.suppress(OSError, RuntimeError):
            writer.transport.abort()
