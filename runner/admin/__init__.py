"""Change and read a broker: declare, plan and apply, RabbitMQ's HTTP API, and the counts of queues."""
