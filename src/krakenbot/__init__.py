"""A queue-aware, hybrid maker trading engine for Kraken spot."""
