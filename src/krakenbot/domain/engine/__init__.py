"""Coroutines over ports only: the verbs of the system."""
