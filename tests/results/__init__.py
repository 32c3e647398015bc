"""Tests of runner/results."""
