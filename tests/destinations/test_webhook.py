"""The webhook's request: headers, body, signatures, and what its settings may be."""

import pytest

from destinations.request import InvalidSettings, Message, Settings, filled, without_secrets
from destinations.webhook import fault, request

M1 = Message("m1", 1, '{"messageId":"m1","name":"Zoë"}'.encode())
M2 = Message("m2", 4, b'{"messageId":"m2"}')


def settings(secret=None, headers=None, url="https://example.com/hook", batch=False):
    return Settings(url, secret, headers or {}, batch=batch)


def test_workspace_WS20_one_message_is_its_own_bytes_with_the_headers():
    made = request(settings(headers={"X-Team": "growth"}), [M2])
    assert made.method == "POST"
    assert made.url == "https://example.com/hook"
    assert made.body == M2.body
    assert made.headers == {
        "X-Team": "growth",
        "Content-Type": "application/json",
        "User-Agent": "Watersmeet/0.1.0",
        "X-Message-Id": "m2",
        "X-Attempt": "4",
    }


def test_workspace_WS20_a_batch_is_an_array_under_the_id_and_attempt_of_its_first():
    made = request(settings(batch=True), [M1, M2])
    assert made.body == b"[" + M1.body + b"," + M2.body + b"]"
    assert made.headers["X-Message-Id"] == "m1"
    assert made.headers["X-Attempt"] == "1"


def test_workspace_WS20_a_batch_of_one_is_an_array_too():
    assert request(settings(batch=True), [M2]).body == b"[" + M2.body + b"]"


def test_catalog_s1_signatures_are_those_that_openssl_makes():
    # printf '%s' '{"messageId":"m1","name":"Zoë"}' | openssl dgst -sha1 -hmac s3cret
    one = request(settings("s3cret"), [M1]).headers
    assert one["X-Signature"] == "0dfd41fb086d701e529c12dec41fe0a4aca5f957"
    assert one["X-Signature-256"] == (
        "c2af055d158d488c7b908d279118d9be8e4e9b24c7de1afeedf852d3238d83b8"
    )


def test_catalog_s1_a_batch_signs_its_first_element_and_the_whole_body():
    many = request(settings("s3cret", batch=True), [M1, M2]).headers
    assert many["X-Signature"] == "0dfd41fb086d701e529c12dec41fe0a4aca5f957"
    assert many["X-Signature-256"] == (
        "222d1f1fe135098bce8537483a525245cecb046a98a8a3e152da5fd0af7770ee"
    )


def test_catalog_s1_signatures_agree_with_a_published_value():
    fox = Message("m", 1, b"The quick brown fox jumps over the lazy dog")
    headers = request(settings("key"), [fox]).headers
    assert headers["X-Signature"] == "de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9"
    assert headers["X-Signature-256"] == (
        "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
    )


def test_catalog_s1_without_a_secret_nothing_is_signed():
    assert not [name for name in request(settings(), [M1]).headers if "Signature" in name]


@pytest.mark.parametrize("message_id", ["a\r\nX-Evil: 1", "a\0b", "żółć", "a\x7f"])
def test_workspace_WS20_a_message_id_cannot_add_a_header(message_id):
    value = request(settings(), [Message(message_id, 1, b"{}")]).headers["X-Message-Id"]
    assert value.isascii()
    assert value.isprintable()


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com", "file:///etc/passwd", "gopher://x", "example.com", "", "http://",
     "https:///x", "javascript:alert(1)", "http://exa mple.com"],
)
def test_destinations_s1_an_address_that_is_not_http_is_a_fault(url):
    assert fault(settings(url=url)).startswith("settings.url")


@pytest.mark.parametrize(
    "headers",
    [{"X-A": "a\r\nb"}, {"X-A": "ż"}, {"X A": "b"}, {"": "b"}, {"X-Signature": "0"}, {"host": "x"},
     {"Content-Length": "3"}],
)
def test_catalog_s1_headers_that_cannot_be_sent_are_a_fault(headers):
    what = fault(settings(headers=headers))
    assert what.startswith("settings.headers")
    assert "\r" not in what


def test_workspace_WS04_settings_are_filled_in_from_the_environment():
    env = {"HOST": "hooks.example.com", "SECRET": "abc", "TOKEN": "t0k"}
    made = filled("https://${HOST}/a", "${SECRET}", {"Authorization": "Bearer ${TOKEN}"}, env)
    assert made.url == "https://hooks.example.com/a"
    assert made.secret == "abc"
    assert made.headers == {"Authorization": "Bearer t0k"}


def test_workspace_WS04_two_dollars_stand_for_themselves():
    assert filled("https://x/$${A}", None, {}, {"A": "no"}).url == "https://x/${A}"


@pytest.mark.parametrize("env", [{}, {"SECRET": ""}])
def test_workspace_WS04_a_missing_or_empty_variable_does_not_turn_signing_off(env):
    with pytest.raises(InvalidSettings, match=r"settings\.secret: the environment has no SECRET"):
        filled("https://x", "${SECRET}", {}, env)


def test_workspace_WS04_what_the_environment_gave_is_cut_out_of_answers():
    made = filled("https://x/${PATH_KEY}", "topsecret", {}, {"PATH_KEY": "k3y"})
    assert without_secrets(made, "you called /k3y with topsecret") == "you called /*** with ***"
