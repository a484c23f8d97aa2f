"""The local journal on disk."""
