"""An app that makes the turns of operations short, in the workers that load it."""
