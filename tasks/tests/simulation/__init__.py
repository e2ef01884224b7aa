"""Dispatchers that crash, pause and lose acknowledgements, on a clock and with chances of the test's own."""
