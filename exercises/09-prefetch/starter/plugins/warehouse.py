"""Pack each order. A small order is packed at once, and a large order takes time."""

import time
from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from runner import Duration, Message, hookimpl


class Options(BaseModel):
    """The options of the ``warehouse`` plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    large: Duration = 0.3


@hookimpl
def handle(message: Message, options: Options) -> None:
    """Pack one order."""
    if Decimal(message.json()["amount"]) >= 100:
        time.sleep(options.large)
