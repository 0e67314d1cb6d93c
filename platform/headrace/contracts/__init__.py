"""What crosses a process boundary: records, headers, topics, ids, states, errors, manifests.

Pure: no clock, no IO. Everything that two roles must agree on is here and nowhere else.
"""
