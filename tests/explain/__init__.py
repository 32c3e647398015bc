"""Tests of runner.explain."""
