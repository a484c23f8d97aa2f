"""Tell every open connection what concerns all: the mode of the engine, changed instruments, bare texts.

The venue calls it as one of its listeners; sessions join when they open and leave when they close.
"""

from __future__ import annotations

from typing import Protocol

from krakenbot.adapters.local_exchange.matching.listeners import VenueListener
from krakenbot.adapters.local_exchange.matching.market import VenueMarket

PROXY_RESTARTING = "CloudFlare WebSocket proxy restarting"


class OpenSession(Protocol):
    """A WS connection that hears what concerns everybody."""

    def show_system(self, mode: str | None = None) -> None:
        """Send the mode of the engine, that of now for None."""

    def show_instrument(self, symbol: str) -> None:
        """Send a changed pair to a connection that reads instruments."""

    def show_text(self, text: str) -> None:
        """Send a text as it is."""


class Announcements(VenueListener):
    """Every open connection, in the order of opening."""

    def __init__(self) -> None:
        self._sessions: dict[OpenSession, None] = {}

    @property
    def sessions(self) -> list[OpenSession]:
        """Return the open connections."""
        return list(self._sessions)

    def join(self, session: OpenSession) -> None:
        """Add a connection."""
        self._sessions[session] = None

    def leave(self, session: OpenSession) -> None:
        """Forget a connection."""
        self._sessions.pop(session, None)

    def tell_all(self, text: str) -> None:
        """Send a text, JSON or not, to every open connection."""
        for session in self.sessions:
            session.show_text(text)

    def on_rules(self, market: VenueMarket) -> None:
        """Send the changed row to those who read instruments."""
        for session in self.sessions:
            session.show_instrument(market.rules.symbol)

    def on_system(self, mode: str) -> None:
        """Send the mode to everybody."""
        for session in self.sessions:
            session.show_system(mode)
