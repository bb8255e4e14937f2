"""The AMQP client, behind a small interface. Only ``pika_adapter`` uses pika's private names.

The client runs pika's ``SelectConnection`` on a dedicated thread. A ``BlockingConnection`` would confirm one message at
a time, send heartbeats only while one of its methods runs, and work on a single thread only.
"""
