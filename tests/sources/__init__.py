"""Tests of runner.sources."""
