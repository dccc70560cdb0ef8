"""What at least two of the services use. Nothing here imports a service."""
