"""Tests of the values that packages share."""
