"""Kraken WS v2 and REST."""
