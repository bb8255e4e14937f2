"""The broker's protocol, behind a small interface of our own: nothing else imports pika.

pika's ``SelectConnection`` on a thread of ours, because its ``BlockingConnection`` confirms one message at a time,
sends heartbeats only while it is called, and may be used from one thread alone.
"""
