"""The HTTP facade: OpenAI's surface over Kafka. Stateless; several run beside each other."""
