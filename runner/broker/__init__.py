"""Find a broker that answers, or say how to run one: a private node or a container."""

from runner.broker.find import Answering, Container, PrivateNode, find_broker

__all__ = ["Answering", "Container", "PrivateNode", "find_broker"]
