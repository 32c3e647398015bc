"""Drift detection: statistics of reference and live attributions, their tests, likely causes, and the verdict."""
