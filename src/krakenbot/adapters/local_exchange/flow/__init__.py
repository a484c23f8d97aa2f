"""Order flow of the local exchange: recorded or seeded participants that act on a market."""
