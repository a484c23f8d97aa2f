"""Wire text to typed messages and back."""
