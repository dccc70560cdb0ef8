"""The steps that made the store what it is, oldest first. Each is run once, in a transaction."""
