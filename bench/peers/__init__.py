"""Other task queues on the same databases, each in a file of its own, run with the Python of .venv-peers."""
