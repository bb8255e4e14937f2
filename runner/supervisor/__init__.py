"""Keep processes running: one asyncio loop that knows neither AMQP nor YAML nor any plugin."""
