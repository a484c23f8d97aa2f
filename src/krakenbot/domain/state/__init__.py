"""What an entry decision may read: features, epochs, universe, safety."""
