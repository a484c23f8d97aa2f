"""An exchange on loopback that speaks Kraken's protocol; it shares no code with the engine."""
