"""Tests of runner/scheduling/daemon."""
