"""The processes that run tasks; they know nothing of HTTP."""
