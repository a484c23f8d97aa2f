"""What the engine knows and decides; depends on ports only in its engine package."""
