"""Tests of runner.stages."""
