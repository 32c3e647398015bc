"""Sinks: destinations of the metrics and messages of an execution.

A sink is a dataclass whose fields are its settings (`conf/publish/*.yaml`), with one method `publish(publication)`.
`dispatch.publish_all` calls all sinks, retries failures and returns messages about sinks that failed; a sink never
changes a verdict. Secrets are read from the environment when a sink publishes. They never appear in settings, messages
or logs.
"""
