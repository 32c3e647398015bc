"""The ledger: schedules and executions in SQLite or PostgreSQL, for several processes at once.

One statement changes the status of an execution and requires the previous one, so that of two processes one succeeds:

    Pending -> InProgress -> Completed | CompletedWithViolations | Failed | Stopped
       |           |-> Stopping -> any of these
       |           '-> Pending, if its owner releases it
       '-> Stopped, if it is skipped
"""
