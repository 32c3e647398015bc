"""The ledger: schedules and executions in SQLite or PostgreSQL, for several processes at once.

An execution only ever moves by one statement that names the status it leaves, so that of two processes one wins:

    Pending -> InProgress -> Completed | CompletedWithViolations | Failed | Stopped
       |           |-> Stopping -> any of these
       |           '-> Pending, when its owner gives it up
       '-> Stopped, when it is not to run
"""
