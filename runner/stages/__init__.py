"""What the program does, a file a stage: each is frozen, built from collaborators and plain values, and has one `run`.

Baselining and monitoring share functions, not a base class: the same estimator on other records, the second with a
comparison at its end.
"""
