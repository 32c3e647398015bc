"""Tests of runner/scheduling."""
