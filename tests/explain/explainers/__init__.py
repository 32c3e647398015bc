"""Tests of runner/explain/explainers."""
