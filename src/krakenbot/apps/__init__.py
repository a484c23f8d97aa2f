"""Wiring: settings, containers and commands."""
