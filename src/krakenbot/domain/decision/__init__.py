"""From state to a risk-approved plan: pure functions over one generation."""
