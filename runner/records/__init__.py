"""From captured lines to tables of records: capture line ⇄ event → payload documents → fields → table.

Everything here is pure: bytes and strings in, values out, and every line or record that cannot be used comes back
as a `Rejection` that says where it stands and why.
"""
