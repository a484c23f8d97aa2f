"""A connection that is lost around COMMIT, for the tests of all who write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

import pytest


class CommitCutter:
    """A proxy on a unix socket that loses the connection around the next COMMIT, before or after it is passed on."""

    def __init__(self, url: str, folder: Path) -> None:
        host = url.split("host=", 1)[1].split("&", 1)[0]
        self.url = url.replace(host, quote(str(folder), safe=""))
        self._target = str(Path(unquote(host)) / ".s.PGSQL.5432")
        self._path = str(folder / ".s.PGSQL.5432")
        self._server: asyncio.Server | None = None
        self.cut = ""
        self.refuse = False
        self.cuts = 0
        self.on_commit: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.close()
            return
        up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        back = asyncio.create_task(self._pump(up_reader, writer))
        try:
            while data := await reader.read(65536):
                if self.cut and b"COMMIT" in data:
                    how, self.cut = self.cut, ""
                    self.cuts += 1
                    for listener in self.on_commit:
                        listener()
                    self.refuse = how.endswith(", and away")
                    back.cancel()
                    if how.startswith("after"):
                        up_writer.write(data)
                        await up_writer.drain()
                        await asyncio.sleep(0.1)
                    break
                up_writer.write(data)
                await up_writer.drain()
        except OSError:
            pass
        finally:
            back.cancel()
            writer.close()
            up_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()


@pytest.fixture
def make_cutter(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CommitCutter]:
    """Return a maker of proxies in front of the server of a URL."""
    return lambda url: CommitCutter(url, tmp_path_factory.mktemp("cut"))


@pytest.fixture
async def cutter(database_urls: Any, make_cutter: Callable[[str], CommitCutter]) -> AsyncIterator[CommitCutter]:
    """A proxy in front of the decision database."""
    async with make_cutter(database_urls.decision) as proxy:
        yield proxy
