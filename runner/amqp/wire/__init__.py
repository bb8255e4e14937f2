"""A codec for AMQP 0-9-1, which converts between bytes and values without I/O or a client library."""
