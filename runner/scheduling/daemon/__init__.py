"""Executions in processes of their own: started, watched, stopped and recorded."""
