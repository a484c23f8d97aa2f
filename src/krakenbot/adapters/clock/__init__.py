"""Clocks and id sources."""
