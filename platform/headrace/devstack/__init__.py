"""The embedded stack: real Kafka, a real S3 server, SQLite and our own roles on one machine, from Python."""
