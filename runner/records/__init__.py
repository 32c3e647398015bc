"""Parsing of captured lines into tables of records: line → event → body → fields → table.

The package is pure: it parses bytes and strings, and returns values. Each invalid line or record becomes a `Rejection`
with its position and the reason.
"""
