"""Limits that the venue sets on clients: REST counter, message rate, subscribe budget, connections, lockout."""
