"""Tests of runner.models."""
