"""Protocols between the engine and the world; their types are the domain's."""
