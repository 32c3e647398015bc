"""Tests of runner/scheduling/ledger."""
