"""AMQP 0-9-1 as a codec: bytes to values and back, without input or output, and without a client library."""
