"""The delivery pipeline under a virtual clock and a broker in memory: the same seed makes the same run."""

from tests.simulation.history import Violation
from tests.simulation.run import Report, run

__all__ = ["Report", "Violation", "run"]
