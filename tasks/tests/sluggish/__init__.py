"""An app whose handlers take long to load."""
