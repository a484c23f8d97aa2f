"""Faults by script: a small language, a plan that chooses victims, and the hooks that play them."""
