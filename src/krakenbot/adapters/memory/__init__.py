"""In-memory twins of the ports, behind the same contract tests."""
