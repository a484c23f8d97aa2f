"""Recordings of raw frames: their format, and a market that plays them back with clients' orders in it."""
