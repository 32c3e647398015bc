"""Schedules: timetables, the ledger of executions, and the daemon that runs them."""
