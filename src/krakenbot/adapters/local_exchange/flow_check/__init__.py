"""Check what a flow looks like from outside, and what makers earn on it."""
