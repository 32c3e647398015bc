"""When executions run, and the processes that run them."""
