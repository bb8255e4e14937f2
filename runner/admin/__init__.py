"""Administration of a broker: declarations, plans and their application, RabbitMQ's HTTP API, and message counts."""
