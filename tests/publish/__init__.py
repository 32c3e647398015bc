"""Sinks, told for real: each against a receiver that listens, refuses, is slow or is not there."""
