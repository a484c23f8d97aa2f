"""Implementations of the ports; they never import each other."""
