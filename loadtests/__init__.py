"""Headrace beside a bare HTTP endpoint and a bare Kafka loop, in one run on one broker.

Start with `python -m loadtests`; README.md says how to read the figures.
"""
