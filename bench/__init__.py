"""How fast the service is, and whether it holds under fire: real processes on a fresh SQLite file."""
