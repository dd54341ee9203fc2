"""Variables and addresses: definitions against the machine they run on (WS-04, WS-24)."""

import pytest

from destinations.addresses import allowed, literal, networks
from destinations.references import references
from workspace.definitions import load, normal_form

HOOK = """\
version: 1
destinations:
  hook:
    type: webhook
    settings:
      url: %s
      secret: %s
      headers: {X-Key: "k-${HOOK_KEY}"}
"""
ENV = {"HOOK_URL": "https://hooks.example.com/in", "HOOK_SECRET": "s3cr3t", "HOOK_KEY": "abc"}


def told(url: str, secret: str, env) -> list[str]:
    _, problems = load([("a.yaml", (HOOK % (url, secret)).encode())], env)
    return [str(problem) for problem in problems]


def address(url: str, allow: str = "") -> list[str]:
    return told(url, "x", {**ENV, "WATERSMEET_OUTBOUND_ALLOW": allow})


# ---- WS-04 ---------------------------------------------------------------------------------------
def test_workspace_WS04_variables_that_are_set_are_no_problem():
    assert told("${HOOK_URL}", "${HOOK_SECRET}", ENV) == []


def test_workspace_WS04_a_missing_variable_is_told_where_it_is_used():
    assert told("https://hooks.example.com/${TEAM}", "${HOOK_SECRET}", {"HOOK_KEY": "abc"}) == [
        "a.yaml:6:12: destinations.hook.settings.url: TEAM is not set in the environment; "
        "set it, or check with --no-env",
        "a.yaml:7:15: destinations.hook.settings.secret: HOOK_SECRET is not set in the "
        "environment; set it, or check with --no-env",
    ]


def test_workspace_WS04_an_empty_variable_counts_as_missing():
    assert "HOOK_SECRET is not set" in told("${HOOK_URL}", "${HOOK_SECRET}",
                                            {**ENV, "HOOK_SECRET": ""})[0]  # fmt: skip


def test_workspace_WS04_without_the_environment_no_variable_is_missing():
    assert told("${HOOK_URL}", "${HOOK_SECRET}", None) == []


def test_workspace_WS04_a_missing_variable_leaves_the_definitions_whole():
    definitions, problems = load([("a.yaml", (HOOK % ("${HOOK_URL}", "x")).encode())], {})
    assert definitions is not None
    assert len(problems) == 2


def test_workspace_WS04_the_reference_stands_in_the_normal_form_never_the_value():
    text = (HOOK % ("${HOOK_URL}", "${HOOK_SECRET}")).encode()
    definitions, _ = load([("a.yaml", text)], ENV)
    body = normal_form(definitions)
    assert b"${HOOK_URL}" in body
    assert b"${HOOK_SECRET}" in body
    assert not any(value.encode() in body for value in ENV.values())


def test_workspace_WS04_a_value_of_the_environment_is_checked_and_never_shown():
    found = told("${HOOK_URL}", "x", {**ENV, "HOOK_URL": "ftp://very-secret.example.com"})
    assert "must be an http:// or https:// address" in found[0]
    assert "secret.example" not in found[0]


@pytest.mark.parametrize("secret", ["[s3cr3t]", "{s3cr3t: s3cr3t}", "5318008"])
def test_workspace_WS04_a_value_of_the_settings_is_never_shown(secret):
    found = told("https://hooks.example.com/in", secret, ENV)
    assert "destinations.hook.settings.secret" in found[0]
    shown = found[0].replace("destinations.hook.settings.secret", "")
    assert "s3cr3t" not in shown
    assert "5318008" not in shown


@pytest.mark.parametrize("text", ['"${}"', '"${1A}"', '"${A B}"', '"${A"', '"${A-B}"'])
def test_workspace_WS04_what_is_no_name_of_a_variable_is_refused_without_the_environment(text):
    assert "names no variable" in told("https://hooks.example.com/in", text, None)[0]


def test_workspace_WS04_two_dollars_are_a_literal():
    assert references("$${NAME} ${A}-${B}").names == ("A", "B")
    assert told("https://hooks.example.com/$${id}", "x", ENV) == []


def test_workspace_WS04_a_reference_elsewhere_is_not_read_and_warned_of():
    text = b'version: 1\nworkspace: {name: "Shop ${CITY}"}\n'
    definitions, problems = load([("a.yaml", text)], {"CITY": "Ulm"})
    assert definitions.workspace.name == "Shop ${CITY}"
    assert [problem.warning for problem in problems] == [True]


# ---- WS-24 ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://127.0.0.1:8080/x", "http://10.1.2.3/", "http://192.168.0.1/",
     "http://172.16.0.1/", "http://169.254.169.254/latest/meta-data", "http://0.0.0.0/",
     "http://100.64.0.1/", "http://[::1]:80/", "http://[fd00::1]/", "http://[fe80::1]/",
     "http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/",
     "http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://0177.0.0.1/",
     "http://user@127.0.0.1/", "http://127.0.0.1./", "http://224.0.0.1/", "HTTP://127.0.0.1/"],
)  # fmt: skip
def test_workspace_WS24_a_private_address_in_a_url_is_refused(url):
    found = address(f'"{url}"')
    assert len(found) == 1, found
    assert found[0].startswith("a.yaml:6:12: destinations.hook.settings.url: the address is pri")
    assert "WATERSMEET_OUTBOUND_ALLOW" in found[0]


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/", "http://93.184.216.34/", "http://[2606:4700::1]/"]
)
def test_workspace_WS24_a_name_or_a_public_address_is_not(url):
    assert address(f'"{url}"') == []


def test_workspace_WS24_the_operator_names_what_is_allowed():
    assert address("http://127.0.0.1/", "127.0.0.0/8") == []
    assert address("http://10.1.2.3/", "127.0.0.0/8, 10.1.2.3") == []
    assert address('"http://[::ffff:127.0.0.1]/"', "127.0.0.0/8") == []
    assert len(address("http://10.1.2.4/", "127.0.0.0/8, 10.1.2.3")) == 1


def test_workspace_WS24_this_machine_by_name_is_warned_of():
    assert address("http://localhost:8099/")[0].endswith("(warning)")
    assert address("http://localhost:8099/", "127.0.0.0/8,::1/128") == []


def test_workspace_WS24_an_address_from_the_environment_is_judged_and_not_shown():
    found = told("${HOOK_URL}", "x", {**ENV, "HOOK_URL": "http://10.9.8.7/"})
    assert "the address is private" in found[0]
    assert "10.9.8.7" not in found[0]


def test_workspace_WS24_a_refused_address_leaves_the_definitions_whole():
    definitions, problems = load([("a.yaml", (HOOK % ("http://10.0.0.1/", "x")).encode())], ENV)
    assert definitions is not None
    assert not problems[0].warning


def test_workspace_WS24_an_address_is_judged_by_what_it_is():
    allow = networks("10.0.0.0/8,fd00::/8")
    assert allowed("8.8.8.8")
    assert allowed("2606:4700::1")
    assert allowed("10.1.1.1", allow)
    assert allowed("fd00::1", allow)
    assert allowed("::ffff:10.1.1.1", allow)
    assert not allowed("10.1.1.1")
    assert not allowed("127.0.0.1", allow)
    assert not allowed("fe80::1%eth0", allow)
    assert not allowed("hooks.example.com")
    assert not allowed("")


def test_workspace_WS24_a_host_that_is_an_address_is_known_in_every_spelling():
    for host in ("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0177.1", "[::1]"):
        assert literal(host) is not None, host
    for host in ("localhost", "example.com", "1.2.3.4.5", "256.1.1.1", "09.1", "", "1.2.3.", "a.1"):
        assert literal(host) is None or host == "1.2.3.", host


def test_workspace_WS24_a_network_that_is_none_is_named():
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/33"):
        networks("127.0.0.0/8,10.0.0.0/33")
    with pytest.raises(ValueError, match=r"127\.0\.0\.1/8"):
        networks("127.0.0.1/8")
