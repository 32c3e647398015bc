"""Serving a model over HTTP, with capture of its requests and responses."""
