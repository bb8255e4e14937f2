"""The event history: the published events and the attempts of messages, in the database."""
