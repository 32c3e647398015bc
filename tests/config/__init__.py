"""Tests of runner/config."""
