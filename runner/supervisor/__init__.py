"""The supervisor: one asyncio loop that keeps processes running, without knowledge of AMQP, YAML or plugins."""
