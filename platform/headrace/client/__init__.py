"""Headrace for Python programs: jobs, streams and batches over HTTP, requests over Kafka.

`from headrace import Client` (or `AsyncClient`, `Publisher`) is how callers get it.
"""
