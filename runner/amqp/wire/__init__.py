"""A codec for AMQP 0-9-1. It converts bytes to values and back, without input, output or a client library."""
