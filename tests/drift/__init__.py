"""Tests of runner.drift."""
