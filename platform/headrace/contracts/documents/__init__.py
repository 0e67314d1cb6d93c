"""The contracts as documents that other programs read: JSON Schemas, AsyncAPI, OpenAPI, header tables.

Made from the code beside them, never written twice; `headrace schemas` writes them to files, and
`headrace schemas --check` says when those are stale.
"""
