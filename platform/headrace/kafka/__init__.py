"""Adapters to Kafka; the only room that imports aiokafka.

Traps of aiokafka that shape this room: after every rebalance the position goes back to the committed
offset and `pause` is forgotten; `getmany` may return records before the assignment callback has ended and
must not be cancelled; `auto_offset_reset` is `latest` by default, which loses the request that woke a
worker; `acks` is 1 by default.
"""
