"""Serve the dashboard, a web page that shows the messages, services and queues of the running system."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runner import Context, Contract, hookimpl

#: The addresses that only this machine can reach.
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Options(BaseModel):
    """The options of the ``dashboard`` plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on; 0.0.0.0 means all addresses.")
    port: int = Field(8080, ge=0, le=65535, description="The TCP port to listen on; 0 means any free port.")
    token: str = Field(
        "",
        description="The secret that browsers must present once, as `?token=…`. Required unless `host` is a loopback"
        " address.",
    )
    allowed_hosts: list[Annotated[str, Field(min_length=1)]] = Field(
        ["localhost", "127.0.0.1", "[::1]"],
        description="The allowed values of the Host header, in addition to `host`; '*' allows any value.",
    )
    mask_personal_data: bool = Field(False, description="Hide e-mail addresses in all pages.")

    @model_validator(mode="after")
    def _token_is_set(self) -> Options:
        if self.host not in LOOPBACK and len(self.token) < 16:
            raise ValueError(
                f"a token of at least 16 characters is required for the host {self.host!r}, because other machines can"
                ' reach it; allowed without a token: 127.0.0.1. Set token: "${DASHBOARD_TOKEN}"'
            )
        return self


@hookimpl
def contract(options: Options) -> Contract:
    """Declare the address on which the service listens."""
    return Contract(listens=[(options.host, options.port)])


@hookimpl
def run(options: Options, context: Context) -> None:
    """Serve the page until the service must stop."""
    from runner.dashboard import DashboardSettings, serve

    settings = DashboardSettings(
        options.host, options.port, options.token, tuple(options.allowed_hosts), options.mask_personal_data
    )
    serve(context, settings)
