"""The client of the broker, behind a small interface. Only ``pika_adapter`` uses names of pika that are not public.

pika's ``SelectConnection`` on a thread of ours, because its ``BlockingConnection`` confirms one message at a time,
sends heartbeats only while it is called, and may be used from one thread alone.
"""
