"""The event history, which the ``audit`` service records, and the order history, which is part of the event history."""
