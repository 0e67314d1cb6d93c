"""Headrace: durable, elastic, cheap inference behind Apache Kafka."""

__version__ = "0.1.0"
