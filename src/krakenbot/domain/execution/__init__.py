"""The order lifecycle: state machine, ledger, position, exits."""
