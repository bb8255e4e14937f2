"""The body of the event ``order.created``, for other services and for ``check``; ``order.py`` makes the event."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class OrderCreated(BaseModel):
    """An order was accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    order_id: str = Field(description="The order's id, a UUID.")
    customer_email: str = Field(description="The customer's address, in its normal form.")
    amount: str = Field(description="The amount as decimal text, such as 149.99: JSON numbers lose digits.")
    currency: str = Field(description="An ISO 4217 code, in capitals.")
    region: str | None = Field(description="The region that the customer named, or null.")
