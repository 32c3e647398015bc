"""Tests of runner.monitors."""
