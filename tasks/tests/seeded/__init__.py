"""The service with bugs in it, for the chaos run to find: an app plants those that ``SEEDED_BUGS`` names.

No code of the service knows of it. ``python -m tasks.tests.seeded BUG,… [arguments of bench.chaos]``.
"""
