"""The supervisor: one asyncio loop that keeps processes running, independent of AMQP, YAML and plugins."""
