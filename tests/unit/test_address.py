"""The parts of an AMQP URL, and its forms that are safe to show."""

from __future__ import annotations

import pytest

from runner.address import Address, Login


def test_a_url_without_details_means_guest_on_the_standard_port_and_the_default_vhost():
    address = Address.of("amqp://broker.example")

    assert (address.host, address.port, address.is_tls) == ("broker.example", 5672, False)
    assert (address.login.user, address.login.password, address.login.vhost) == ("guest", "guest", "/")


def test_escaped_characters_of_login_and_vhost_are_decoded():
    login = Address.of("amqp://an%40na:p%2Fw@127.0.0.1:7000/shop%2F1").login

    assert (login.user, login.password, login.vhost) == ("an@na", "p/w", "shop/1")


def test_amqps_has_its_own_standard_port():
    assert Address.of("amqps://broker.example/").port == 5671


def test_shown_forms_contain_no_password():
    address = Address.of("amqp://anna:topsecret@127.0.0.1:7000/")

    assert "topsecret" not in f"{address} {address!r}"


@pytest.mark.parametrize("url", ["amqp://u:topsecret@h:99999/", "amqp://u:topsecret@h:port/", "amqp://u:topsecret@[h/"])
def test_an_unusable_url_is_a_configuration_error_that_hides_the_password(url: str):
    with pytest.raises(ValueError, match="not an address") as caught:
        Address.of(url)

    assert "topsecret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unknown_scheme_is_named():
    with pytest.raises(ValueError, match="scheme 'http' is not AMQP; allowed: amqp://, amqps://"):
        Address.of("http://127.0.0.1/")


@pytest.mark.parametrize(
    ("host", "listen_on"),
    [
        ("localhost", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.9.9.9", "127.9.9.9"),
        ("[::1]", "::1"),
        ("10.0.0.1", None),
        ("broker.example", None),
        ("0.0.0.0", None),
    ],
)
def test_only_this_machine_is_loopback(host: str, listen_on: str | None):
    assert Address.of(f"amqp://{host}:7000/").loopback == listen_on


def test_a_login_survives_the_environment():
    login = Login("anna", "p w", "shop")

    assert Login.from_environment(login.environment()) == login
    assert Login.from_environment({}) == Login("guest", "guest", "/")


@pytest.mark.parametrize("url", ["amqp://u:topsecret@/", "amqp://u:topsecret@h:0/", "topsecret", ""])
def test_an_address_without_scheme_host_or_port_is_refused_without_its_password(url: str):
    with pytest.raises(ValueError, match="allowed: amqp") as caught:
        Address.of(url)

    assert "topsecret" not in str(caught.value)
