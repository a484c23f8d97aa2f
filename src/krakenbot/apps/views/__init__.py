"""`krakenbot orders`, `positions` and `trades`: what the decision database holds, for people and machines."""
