"""How fast the service is, also beside others, and whether it holds under fire: real processes, new data."""
