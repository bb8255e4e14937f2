"""The delivery pipeline with a virtual clock and a broker in memory. The same seed produces the same run."""

from tests.simulation.history import Violation
from tests.simulation.run import Report, run

__all__ = ["Report", "Violation", "run"]
