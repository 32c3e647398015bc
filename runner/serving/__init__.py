"""Serving a model: the endpoint, and the capture of what it answers."""
