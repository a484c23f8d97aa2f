"""The two PostgreSQL roles: ingest and decision."""
