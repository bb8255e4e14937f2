"""The e-mail that a customer gets for an event, and attempts to inject other content."""

import contextlib
import json
import logging
import os
import re
import resource
from email import message_from_bytes, policy
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from plugins.notification import Options, start
from plugins.notification import handle as _handle
from plugins.notification.mail import compose, parse_address, read_recipient
from plugins.notification.notifier import Notifier
from plugins.notification.smtp import as_message
from plugins.notification.template import load_templates
from runner import Message, PluginError, Reject
from tests.keeping import NOTHING

handle = partial(_handle, store=NOTHING)

BODY = {
    "order_id": "6f1c0f5e",
    "payment_id": "77aa",
    "customer_email": "alice@example.com",
    "amount": "149.99",
    "currency": "USD",
    "region": None,
    "reason": "card_declined",
}


#: The parts of a worker's context that ``start`` uses.
CONTEXT: Any = SimpleNamespace(log=logging.getLogger("test.notification"))


class Outbox:
    """An outbox that keeps e-mails as their recipients would read them."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    def send(self, mail, order) -> Any:
        sent = as_message(mail).as_bytes(policy=policy.default.clone(utf8=True))
        self.mails.append(message_from_bytes(sent, policy=policy.default))


def message(event_type="order.created", drop=(), **changes) -> Any:
    body = {name: value for name, value in {**BODY, **changes}.items() if name not in drop}
    return Message(body=json.dumps(body).encode(), queue="q", type=event_type, id="event-1", timestamp=1_700_000_000)


def mail_for(incoming, folder=None) -> Any:
    outbox = Outbox()
    Notifier(load_templates(folder), "Shop <shop@example.com>", outbox).notify(incoming, NOTHING)
    (mail,) = outbox.mails
    return mail


@pytest.mark.parametrize(
    ("event_type", "subject"),
    [
        ("order.created", "We have your order 6f1c0f5e"),
        ("payment.success", "Your order 6f1c0f5e is paid"),
        ("payment.failed", "Your order 6f1c0f5e could not be paid"),
    ],
)
def test_each_event_has_its_e_mail(event_type, subject):
    mail = mail_for(message(event_type))
    assert mail["To"] == "alice@example.com"
    assert mail["From"] == "Shop <shop@example.com>"
    assert mail["Subject"] == subject
    assert "149.99 USD" in mail.get_content()
    assert "{" not in mail.get_content()


def test_the_reason_of_a_failed_payment_is_written_in_words():
    assert "card was declined" in mail_for(message("payment.failed")).get_content()
    assert "above the limit" in mail_for(message("payment.failed", reason="over_limit")).get_content()


def test_a_domain_beyond_ascii_is_written_as_every_mail_server_knows_it():
    assert mail_for(message(customer_email="kim@bücher.example"))["To"] == "kim@xn--bcher-kva.example"


def test_the_same_event_gives_the_same_e_mail():
    first, second = mail_for(message()), mail_for(message())
    assert first.as_bytes() == second.as_bytes()
    assert first["Message-ID"] == "<event-1@example.com>"
    assert first["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize("event_id", ["", "a b", "x>\r\nBcc: all@example.com", "\ud800", "y" * 500])
def test_an_unusual_event_id_still_makes_a_message_id(event_id):
    mail = compose(Message(body=b"", queue="q", id=event_id), "shop@example.com", "a@example.com", "Hi", "text")
    parsed = message_from_bytes(as_message(mail).as_bytes(), policy=policy.default)
    assert parsed["Message-ID"].endswith("@example.com>")
    assert parsed["Bcc"] is None


def test_an_e_mail_is_one_line_of_the_log(caplog):
    caplog.set_level(logging.INFO)
    assert handle(message("payment.success"), start(Options(), CONTEXT)) is None
    (line,) = caplog.records
    assert line.getMessage() == "e-mail to alice@example.com: Your order 6f1c0f5e is paid"
    assert line.order == "6f1c0f5e"
    assert not hasattr(line, "lines")


def test_the_text_of_an_e_mail_is_shown_line_by_line_at_debug_level(caplog):
    caplog.set_level(logging.DEBUG)
    handle(message("payment.success"), start(Options(), CONTEXT))
    lines = [line for record in caplog.records for line in (record.getMessage(), *record.lines)]
    assert lines[0] == "e-mail to alice@example.com: Your order 6f1c0f5e is paid"
    assert "  | we have received 149.99 USD for your order 6f1c0f5e." in lines


def test_an_event_cannot_fake_a_line_of_the_log(caplog):
    caplog.set_level(logging.DEBUG)
    handle(message(amount="1\x1b[31m\n2024 ERROR all is lost"), start(Options(), CONTEXT))
    lines = [line for record in caplog.records for line in (record.getMessage(), *record.lines)]
    assert len(lines) > 1
    assert all(line.isprintable() for line in lines)


def test_an_unknown_event_is_rejected():
    with pytest.raises(Reject, match=r"no template for 'order\.lost'; known: order\.created, order\.rej"):
        mail_for(message("order.lost"))


@pytest.mark.parametrize("event_type", ["", "../payment", "order.created.txt", "/etc/passwd"])
def test_an_event_type_is_never_a_path(event_type):
    with pytest.raises(Reject, match="no template for"):
        mail_for(message(event_type))


def test_a_field_that_the_template_needs_is_named_if_the_event_lacks_it():
    with pytest.raises(Reject, match=r"message event-1: payment\.success\.txt: 'payment_id' is undefined"):
        mail_for(message("payment.success", drop=["payment_id"]))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b"not json", b'{"customer_email": 5}'])
def test_a_body_without_an_address_is_rejected(body):
    with pytest.raises(Reject):
        mail_for(Message(body=body, queue="q", type="order.created", id="m"))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "alice",
        "alice@",
        "@example.com",
        "a@example.com, b@example.com",
        "Alice <alice@example.com>",
        "alice@example.com\r\nBcc: all@example.com",
        "alice@example.com\n",
        "alice@example.com\x00",
        "a\ud800@example.com",
        "a" * 65 + "@example.com",
        "ü" * 33 + "@example.com",
        "a@" + ".".join(["b" * 63] * 4),
    ],
)
def test_a_text_that_is_not_one_address_is_rejected(address):
    with pytest.raises(Reject, match="customer_email: "):
        mail_for(message(customer_email=address))


HEADERS = {
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "Content-Type",
    "Content-Transfer-Encoding",
    "MIME-Version",
}


@given(st.text(), st.text())
def test_no_text_of_an_event_can_add_a_header(order_id, amount):
    mail = mail_for(message(order_id=f"1 Bcc: all@example.com{' '.join(order_id.split())}", amount=amount))
    assert set(mail.keys()) == HEADERS
    assert mail["To"] == "alice@example.com"


@pytest.mark.parametrize(
    "encoded",
    [
        "=?utf-8?q?=0d=0abcc=3av=40x.example=0d=0a?=",
        "=?utf-8?q?a=2cb=40x.example=3e=2c?=",
        "=?UTF-8?B?YUBiLmNvbSxi?=",
        "a=?iso-8859-1*en?Q?=2C?=b",
        "=?utf-8?q?=2c",
        "=??q?=41",
        "=?unknown-8bit?q?=0a?=",
    ],
)
def test_an_encoded_word_is_part_of_neither_an_address_nor_a_subject(encoded):
    with pytest.raises(Reject, match=r"message event-1: customer_email: .* contains an encoded word \(RFC 2047\)$"):
        mail_for(message(customer_email=f"{encoded}@example.com"))
    with pytest.raises(Reject, match=r"message event-1: the e-mail subject .* contains an encoded word"):
        mail_for(message(order_id=f"1 {encoded} 2"))


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_line_break_in_a_subject_is_rejected(end):
    for order_id in (f"1{end}Bcc: all@example.com", f"1{end}", f"{end}1"):
        with pytest.raises(Reject, match=r"message event-1: the e-mail subject .* contains a line break"):
            mail_for(message(order_id=order_id))


@pytest.mark.parametrize("subject", ["1+1=?", "is it =?utf-8 or not?", "a?=b", "50 % =?", "=?q? is no word"])
def test_a_subject_that_only_looks_like_an_encoded_word_is_kept(subject):
    mail = compose(Message(body=b"", queue="q", id="m"), "shop@example.com", "a@example.com", subject, "text")
    assert str(as_message(mail)["Subject"]) == subject


def test_a_template_whose_subject_is_an_encoded_word_is_refused(tmp_path):
    (tmp_path / "order.created.txt").write_text("Subject: =?utf-8?q?Hi?= {{ order_id }}\n\nHello\n")
    with pytest.raises(PluginError, match=r"order\.created\.txt:1: the subject contains an encoded word"):
        start(Options(templates=tmp_path), CONTEXT)


#: Parts of headers that try to inject more headers.
PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "=?",
                "?=",
                "utf-8",
                "?q?",
                "?b?",
                "?Q?",
                "*en",
                "=0d=0a",
                "=2c",
                "YUBiLmNvbSxi",
                "DQpiY2M6IHZAeC5leGFtcGxl",
            ),
            *("\r", "\n", "\x85", " ", "\t", "é", "_", "?", "=", "<", ">", ",", '"', "bcc:v@x.example", "x" * 70),
        ]
    ),
    max_size=12,
).map("".join)


@given(PIECES, PIECES.map("{}@example.com".format))
def test_a_finished_header_has_its_text_and_no_line_break(subject, recipient):
    sender = Message(body=b"", queue="q", id="m")
    try:
        mail = compose(sender, "shop@example.com", recipient, subject, "text")
        sent = as_message(mail)
    except Reject:
        return
    assert not [name for name, value in sent.items() if set(value) & {"\r", "\n"}]
    for utf8 in (False, True):
        raw = sent.as_bytes(policy=policy.SMTP.clone(utf8=utf8))
        head, _, body = raw.partition(b"\r\n\r\n")
        assert body == b"text\r\n"
        # A continuation line begins with a space (RFC 5322, section 2.2.3); each other line begins a header.
        starts = [line.partition(b":")[0].decode() for line in head.split(b"\r\n") if not line.startswith(b" ")]
        assert sorted(starts) == sorted(HEADERS)
        read = message_from_bytes(raw, policy=policy.default)
        # Python itself doubles spaces when it folds a line.
        assert read["Subject"].split() == mail.subject.split()
        if utf8 or recipient.isascii():  # other addresses are only sent with SMTPUTF8
            assert read["To"] == mail.recipient


#: Parts of addresses that look plain, and parts of some others.
LOCAL_PARTS = st.from_regex(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,70}", fullmatch=True) | st.sampled_from(
    ["Postmaster", "ABUSE", "info", "Ünï", '"a b"', '"plain"', "a..b", ".a", "a" * 250]
)
DOMAINS = st.from_regex(r"[a-z0-9.-]{1,70}", fullmatch=True) | st.sampled_from(
    ["example.com", "Example.COM", "a.test", "localhost", "xn--bcher-kva.example", "xn--a.example", "bücher.example"]
)
ODD_DOMAINS = st.sampled_from(
    ["[127.0.0.1]", "ab--cd.com", "-a.com", "a-.com", "a..com", "a.com.", "com", "1.2.3.4", ".".join(["a" * 60] * 4)]
)


@given(st.builds("{}@{}".format, LOCAL_PARTS, DOMAINS | ODD_DOMAINS) | st.emails() | st.text())
def test_a_plain_address_is_parsed_like_any_other(text):
    try:
        expected = parse_address(text).addr_spec
    except ValueError as error:
        with pytest.raises(ValueError, match=f"^{re.escape(str(error))}$"):
            read_recipient(text)
    else:
        assert read_recipient(text) == expected


@given(
    st.text() | PIECES,
    st.text() | st.text("aé \r\n\x0b\x0c\x85\u2028.=\t", max_size=400),
)
def test_the_log_shows_the_text_that_a_reader_sees(subject, text):
    try:
        mail = compose(Message(body=b"", queue="q", id="m"), "shop@example.com", "a@example.com", subject, text)
        seen = as_message(mail)
    except Reject:
        return
    assert (mail.recipient, mail.subject) == (str(seen["To"]), str(seen["Subject"]))
    logged, read = ([line for line in lines.splitlines() if line] for lines in (mail.text, seen.get_content()))
    assert logged == read


@given(st.text())
def test_no_address_breaks_the_handler(address):
    with contextlib.suppress(Reject):
        mail_for(message(customer_email=address))


def test_a_field_named_self_is_an_ordinary_field():
    assert mail_for(message(self="x", environment="y"))["To"] == "alice@example.com"


def test_a_user_s_template_replaces_the_shipped_one_and_the_others_stay(tmp_path):
    (tmp_path / "order.created.txt").write_text("Subject: Thanks, ü\n\nOrder {{ order_id }}\n", encoding="utf-8")
    mail = mail_for(message(), tmp_path)
    assert mail["Subject"] == "Thanks, ü"
    assert mail.get_content() == "Order 6f1c0f5e\n"
    assert mail_for(message("payment.success"), tmp_path)["Subject"] == "Your order 6f1c0f5e is paid"


def test_a_template_for_another_event_adds_that_event(tmp_path):
    (tmp_path / "order.shipped.txt").write_text("Subject: On its way\n\nSoon.\n")
    assert mail_for(message("order.shipped"), tmp_path)["Subject"] == "On its way"


def test_templates_can_share_a_part(tmp_path):
    (tmp_path / "footer.inc").write_text("Bye from {{ region or 'everywhere' }}")
    (tmp_path / "order.created.txt").write_text("Subject: Hi\n\n{% include 'footer.inc' %}\n")
    assert mail_for(message(), tmp_path).get_content() == "Bye from everywhere\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", r"order\.created\.txt:1: the subject is missing"),
        ("Hello\n", r"order\.created\.txt:1: the subject is missing"),
        ("Subject:\n\nHello\n", r"order\.created\.txt:1: the subject is missing"),
        ("Subject: Hi\nHello\n", r"order\.created\.txt:2: the line after the subject is not empty, 'Hello'"),
        ("Subject: {{ order_id\n\nHello\n", r"order\.created\.txt:1: "),
        ("Subject: Hi\n\nHello\n{% if x %}\n{{ y \n", r"order\.created\.txt:5: "),
        ("Subject: Hi\n\nHello {{ x|money }}\n", r"order\.created\.txt:3: No filter named 'money'"),
    ],
)
def test_a_faulty_template_is_named_by_file_and_line(tmp_path, text, fault):
    (tmp_path / "order.created.txt").write_text(text)
    with pytest.raises(PluginError, match=fault):
        start(Options(templates=tmp_path), CONTEXT)


def test_a_template_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "order.created.txt").write_bytes(b"Subject: \xff\n\n")
    with pytest.raises(PluginError, match=r"order\.created\.txt: cannot be read as UTF-8"):
        start(Options(templates=tmp_path), CONTEXT)


def test_a_missing_template_folder_is_named(tmp_path):
    with pytest.raises(PluginError, match="nowhere: is not a folder"):
        start(Options(templates=tmp_path / "nowhere"), CONTEXT)


def test_a_missing_shipped_template_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("plugins.notification.template.SHIPPED", tmp_path)
    with pytest.raises(PluginError, match=r"order\.created\.txt: is missing"):
        start(Options(), CONTEXT)


@pytest.mark.parametrize(
    "attack",
    ["{{ ''.__class__.__mro__ }}", "{{ order_id.__init__.__globals__ }}", "{{ '%s' % (1, 2) }}", "{{ 1 / 0 }}"],
)
def test_a_template_has_access_only_to_its_words(tmp_path, attack):
    (tmp_path / "order.created.txt").write_text(f"Subject: Hi\n\n{attack}\n")
    with pytest.raises(Reject, match=r"order\.created\.txt: "):
        mail_for(message(), tmp_path)


@pytest.mark.parametrize(
    "greedy",
    [
        "{{ 'a' * 300000000 }}",
        "{{ 300000000 * 'a' }}",
        "{{ ([order_id] * 1000) * 1000 }}",
        "{{ 'a'.ljust(300000000) }}",
        "{{ 'a'|center(300000000) }}",
        "{{ '%300000000d' % 1 }}",
        "{{ '%*d' % (300000000, 1) }}",
        "{{ '%300000000d'|format(1) }}",
        "{{ '{:>300000000}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 300000000) }}",
        "{{ ('a' * 9999).replace('a', 'b' * 9999) }}",
        "{{ ('a' * 9999)|replace('a', 'b' * 9999) }}",
        "{{ ('a' * 9999).join(['b'] * 9999) }}",
        "{{ range(100000)|join('a' * 9999) }}",
        "{{ (1).to_bytes(300000000, 'big') }}",
        "{{ 'a\n'|indent(300000000) }}",
        "{{ ['a']|batch(300000000, 'b')|list }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ lipsum(99999999) }}",
        "{% set ns = namespace(x='a') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set x %}{% for i in range(99999) %}{{ 'a' * 999 }}{% endfor %}{% endset %}",
        "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}" + "a" * 9999 + "{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'a' * count }}",
        "{{ 'a' * (count ~ '000')|int }}",
    ],
)
def test_a_template_that_exceeds_its_limits_is_refused(tmp_path, greedy):
    (tmp_path / "order.created.txt").write_text(f"Subject: Hi\n\n{greedy}\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Reject, match=r"order\.created\.txt: "):
        mail_for(message(count=300_000_000), tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KiB"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("{{ '-' * 40 }}", "-" * 40),
        ("{{ '%08.2f' % 5 }} {{ '%.1f'|format(5) }} {{ '{:>6}'.format(5) }}", "00005.00 5.0      5"),
        ("{{ order_id ~ '/' ~ currency|lower }}", "6f1c0f5e/usd"),
        ("{% for one in [1, 2, 3] %}{{ loop.index }}/{{ loop.length }} {% endfor %}", "1/3 2/3 3/3"),
        ("{{ ['a', 'b']|join(', ') }}|{{ 'a-b'.replace('-', '+') }}|{{ 'a'|center(5) }}|", "a, b|a+b|  a  |"),
        ("{{ 'a' if amount else 'b' }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ 1 + 2 * 3 }}", "a102437"),
        ("{% set x = ['a', 'b'] %}{% for one in x recursive %}{{ one }}{% else %}none{% endfor %}", "ab"),
    ],
)
def test_usual_templates_are_accepted(tmp_path, words, text):
    (tmp_path / "order.created.txt").write_text(f"Subject: Hi\n\n{words}\n")
    assert mail_for(message(), tmp_path).get_content() == f"{text}\n"


def test_a_number_without_bounds_is_refused_in_a_template():
    body = b'{"customer_email": "a@example.com", "order_id": "1", "currency": "USD", "amount": 1E+999999999}'
    with pytest.raises(Reject, match=r"order\.created\.txt: a number is too large or too small"):
        mail_for(Message(body=body, queue="q", type="order.created", id="m"))


@pytest.mark.parametrize("kind", ["device", "pipe", "large", "folder"])
def test_a_path_that_is_no_small_template_file_is_refused(tmp_path, kind):
    path = tmp_path / "order.created.txt"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("Subject: Hi\n\n" + "a" * 70_000)
    with pytest.raises(PluginError, match=r"order\.created\.txt: (too large; allowed: 65536|cannot be read)"):
        start(Options(templates=tmp_path), CONTEXT)


@pytest.mark.parametrize(
    "options",
    [
        {"transport": "pigeon"},
        {"sender": "shop"},
        {"sender": "shop@example.com\r\nBcc: x@example.com"},
        {"sender": "a@example.com, b@example.com"},
        {"smtp": {"port": 0}},
        {"smtp": {"timeout": 0}},
        {"smtp": {"username": "x"}},
        {"smtp": {"password": "x"}},
        {"smtp": {"username": "x", "password": "y", "host": "mail.example.com"}},
        {"smtp": {"hots": "x"}},
        {"template": "x"},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        Options.model_validate(options)


def test_the_password_is_never_shown():
    options = Options.model_validate({"smtp": {"username": "x", "password": "canary"}})
    assert "canary" not in f"{options!r} {options}"


def test_every_option_is_described():
    for model in (Options, type(Options().smtp)):
        assert all(field.description for field in model.model_fields.values())
