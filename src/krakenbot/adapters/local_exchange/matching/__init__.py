"""The deterministic core: books, matching, accounts, holds. Time is an argument; nothing here reads a clock."""
