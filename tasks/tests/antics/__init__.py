"""A Django app whose handlers show what happens around them: TASKSERVICE_APPS names it."""
