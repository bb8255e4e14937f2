"""Send customers e-mails about their orders.

``templates/<event type>.txt`` is the Jinja2 template of the e-mail for an event type. A template contains the subject
line, an empty line, and the text. To change an e-mail, put a file with the same name into your own folder, and set the
``templates`` option to this folder. A file for another event type adds an e-mail for that type.

With ``inbox: true``, the service stores a row for each e-mail in the ``emails`` table. A second delivery of an event
therefore sends no second e-mail. An e-mail is sent twice only if a worker dies after the mail server has accepted the
e-mail but before the row is committed. Both copies of the e-mail have the same Message-ID.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from runner import Context, Contract, Message, MessageStore, Tables, hookimpl

from .mail import check_sender

if TYPE_CHECKING:
    from .notifier import Notifier


#: The folder with the plugin's own templates.
SHIPPED = Path(__file__).parent / "templates"


class Smtp(BaseModel):
    """The mail server, for ``transport: smtp``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="The name or address of the mail server.")
    port: int = Field(
        25, ge=1, le=65535, description="The port of the mail server. Most servers that require a login use 587."
    )
    starttls: bool = Field(False, description="Encrypt the connection and check the server's certificate.")
    username: str | None = Field(None, min_length=1, description="The user name, if the server requires a login.")
    password: SecretStr | None = Field(None, description="The password; use a variable such as ${SMTP_PASSWORD}.")
    timeout: float = Field(
        10.0, gt=0, le=120, description="The number of seconds to wait for each answer from the mail server."
    )

    @model_validator(mode="after")
    def check_login(self) -> Self:
        """Refuse an incomplete login, or a login that would be sent over the network without encryption."""
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together; set both or neither")
        if self.username and not self.starttls and self.host not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError("the password would be sent without encryption; set starttls: true")
        return self


class Options(BaseModel):
    """The options of the ``notification`` plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transport: Literal["log", "smtp"] = Field(
        "log", description="log: write each e-mail to the log; smtp: send each e-mail to the mail server."
    )
    templates: Path | None = Field(
        None, description="A folder with files <event type>.txt that replace the plugin's templates."
    )
    sender: Annotated[str, AfterValidator(check_sender)] = Field(
        "FastCommerce <shop@example.com>", description="The sender of the e-mails."
    )
    smtp: Smtp = Field(Smtp(), description="The mail server.")


class Recipient(BaseModel):
    """The fields of an event's body that every e-mail needs. A template may need more fields."""

    model_config = ConfigDict(frozen=True)

    customer_email: str = Field(description="The recipient of the e-mail.")


@hookimpl
def contract(options: Options) -> Contract:
    """Declare that the service handles every event type that has a template."""
    folders = [SHIPPED] if options.templates is None else [SHIPPED, options.templates]
    return Contract(handles={path.stem: Recipient for folder in folders for path in folder.glob("*.txt")})


@hookimpl
def tables(inbox: bool) -> Tables | None:
    """Declare the table of sent e-mails, which is used only with an inbox."""
    from .sent_emails import emails

    return Tables(emails().metadata) if inbox else None


@hookimpl
def start(options: Options, context: Context) -> Notifier:
    """Read the templates and create the transport."""
    # Imported here, because commands such as ``check`` import the options but send no e-mails.
    from .notifier import LogTransport, Notifier, Transport
    from .template import load_templates

    transport: Transport
    if options.transport == "log":
        transport = LogTransport(context.log)
    else:
        from .smtp import SmtpTransport

        transport = SmtpTransport(options.smtp, context.log)
    return Notifier(load_templates(options.templates), options.sender, transport)


@hookimpl
def handle(message: Message, resources: Notifier, store: MessageStore) -> None:
    """Send the e-mail for one event."""
    resources.notify(message, store)
