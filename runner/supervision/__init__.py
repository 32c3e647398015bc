"""Executions in processes of their own: started, watched, stopped, and written down in the ledger."""
