"""Sans-I/O sessions: text and time in, events and text out."""
