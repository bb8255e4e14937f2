"""The client of the broker, behind a small interface. Only ``pika_adapter`` uses private names of pika.

The client runs pika's ``SelectConnection`` on its own thread. ``BlockingConnection`` does not suffice. It confirms one
message at a time, sends heartbeats only while one of its methods runs, and works on a single thread.
"""
