"""Where executions are told to once they have ended: the sinks, and the one function that tells them.

A sink is its own configuration (`conf/publish/*.yaml`) and has one method, `publish(publication)`. Nothing that a sink
does changes a verdict: `telling.tell` tries each a few times and returns sentences about those that failed. Secrets
come from the environment, at the time of telling, and stand in no setting, message or log.
"""
