"""The venue's wire protocols, without sockets: WebSocket sessions and REST endpoints."""
