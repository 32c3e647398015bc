"""Tests of runner.serving."""
