"""The verbs beside a model of them that has no database: whatever one does, the other does too."""
