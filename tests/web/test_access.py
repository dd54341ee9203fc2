"""The access token."""

import hashlib
import stat

import pytest

from app.web.access import Access, digest, load_token, presented
from tests.web.reading import TOKEN

PATH = "/v1/spaces/default/collections/users/profiles/user_id:u1/traits"


def test_access_the_token_of_the_environment_is_not_written(tmp_path):
    assert load_token(tmp_path, {"WATERSMEET_TOKEN": "secret"}) == (
        hashlib.sha256(b"secret").digest(), "WATERSMEET_TOKEN")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("env", [{}, {"WATERSMEET_TOKEN": ""}])
def test_access_a_token_is_made_once_and_kept_for_its_owner_only(tmp_path, env):
    folder = tmp_path / "data"
    kept, where = load_token(folder, env)
    path = folder / "token"
    assert where == str(path)
    token = path.read_text().strip()
    assert len(token) >= 43  # 256 bit
    assert kept == digest(token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert load_token(folder, env) == (kept, where)
    assert [entry.name for entry in folder.iterdir()] == ["token"]


def test_access_an_empty_token_file_is_made_anew_and_rights_are_mended(tmp_path):
    path = tmp_path / "token"
    path.write_text("\n")
    kept, _ = load_token(tmp_path, {})
    assert kept != digest("")
    path.chmod(0o644)
    load_token(tmp_path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(("header", "token"), [
    ("Bearer abc", "abc"), ("Basic YWJjOg==", "abc"), ("Basic YWJj", "abc"),
    ("basic YWJjOg", "abc"),
    ("Basic YWJjOng=", "abc:x"), ("Basic \x00", ""), ("Basic gA==", "\ufffd"), (None, None),
    ("", None), ("Bearer", None), ("abc", None), ("Digest abc", None),
])
def test_access_tokens_are_found_in_the_header(header, token):
    assert presented(header) == token


async def test_access_20_wrong_tokens_a_minute_then_429_but_the_right_one_always_opens(
    platform, call
):
    platform.profile(ids=[("user_id", "u1")])
    wrong = {"Authorization": "Bearer wrong"}
    for _ in range(20):
        assert (await call(PATH, headers=wrong))[0] == 401
    status, headers, told = await call(PATH, headers=wrong)
    assert (status, told["error"]["code"]) == (429, "rate_limit_error")
    assert 1 <= int(headers["Retry-After"]) <= 61
    assert headers["Request-Id"]
    assert (await call(PATH))[0] == 200
    assert (await call(PATH, headers=wrong))[0] == 429
    platform.seconds += 61
    assert (await call(PATH, headers=wrong))[0] == 401


def test_access_what_is_remembered_of_addresses_is_bounded():
    access = Access(digest(TOKEN), lambda: 0.0)
    for at in range(25_000):
        access._failed(f"10.0.{at // 256}.{at % 256}")
    assert len(access._failures) <= 10_000


def test_access_log_names_are_stable_and_depend_on_the_token():
    first, again, other = (Access(digest(token)).hidden("email:ann@x.test")
                           for token in ("a", "a", "b"))
    assert first == again != other
    assert "ann" not in first
