"""`krakenbot doctor`, and the same check-up at the start of execution."""
