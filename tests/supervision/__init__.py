"""Tests of runner.supervision."""
