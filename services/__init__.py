"""The three services and the command that runs them. They never import one another."""
