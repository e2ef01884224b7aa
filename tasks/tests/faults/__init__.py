"""A Django app whose handlers misbehave, each in its own way: TASKSERVICE_APPS=tasks.tests.faults."""
