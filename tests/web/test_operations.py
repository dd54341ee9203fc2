"""Health, metrics, usage, audiences and journeys, called over HTTP."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.web.reading import NOW_MS, TOKEN


async def test_operations_health_is_open_and_tells_what_is_amiss(platform, call):
    status, headers, told = await call("/health", headers={})
    assert (status, told) == (200, {"status": "ok"})
    assert headers["Request-Id"]
    platform.reasons = ["starting: the log is being applied"]
    status, headers, told = await call("/health", headers={})
    assert (status, told) == (503, {"status": "unavailable", "reasons": platform.reasons})
    assert headers["Retry-After"]


@pytest.mark.parametrize("path", [
    "/metrics", "/v1/usage?month=2026-03", "/v1/spaces/default/audiences",
    "/v1/spaces/default/audiences/vip/members", "/v1/spaces/default/journeys/cart",
    "/v1/namespaces/default/audiences",
])
async def test_operations_all_else_wants_the_token(platform, call, path):
    platform.audiences = {"vip": "VIP"}
    platform.journeys = {"cart": "Cart"}
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        status, _, told = await call(path, headers=headers)
        assert (status, told["error"]["code"]) == (401, "authentication_error")
    assert (await call(path))[0] == 200
    assert (await call(path.replace("default", "other")))[0] == (403 if "default" in path else 200)


async def test_operations_metrics_balance(platform, call):
    for name, value in (("logged", 100), ("duplicates", 7), ("filtered", 5), ("unresolved", 3),
                        ("applied", 80), ("set_aside", 5), ("filtered:G2", 5), ("profiles", 12),
                        ("usage:2026-03-01:calls:web", 9), ("audience:vip:size", 4),
                        ("journey:cart:1:hold:arrived", 6), ("journey:cart:1::exit:A:B", 1)):
        platform.counted(name, value)
    platform.in_flight = 11
    platform.refused = {"unknown_write_key": 2, "too_large": 1}
    platform.gauges = {"log_records": 40}
    status, headers, text = await call("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = (value for _, value in sorted(sample.labels.items()))
            found[(sample.name.removeprefix("watersmeet_"), *labels)] = sample.value
    assert found["logged_total",] == 111
    assert found["logged_total",] == sum(found[name,] for name in (
        "duplicates_total", "filtered_total", "unresolved_total", "applied_total", "set_aside",
        "in_flight"))
    assert found["refused_total", "unknown_write_key"] == 2
    assert found["counted", "G2", "filtered"] == 5
    assert found["counted", "", "profiles"] == 12
    assert found["audience_size", "vip"] == 4
    assert found["journey_step", "cart", "hold", "1", "arrived"] == 6
    assert found["journey_step", "cart", "", "1", "exit:A:B"] == 1
    assert found["log_records",] == 40
    assert "2026" not in text  # usage grows with every day: it has a route of its own


async def test_governance_G47_usage_is_told_by_month(platform, call):
    for name, value in (("calls:web", 3), ("identified", 1), ("identified:web", 1),
                        ("anonymous", 2), ("anonymous:web", 2), ("linked", 1), ("linked:web", 1)):
        platform.counted(f"usage:2026-03-01:{name}", value)
    platform.counted("usage:2026-02-28:calls:web", 50)
    status, _, told = await call("/v1/usage?month=2026-03")
    counts = {"mtu": 2, "identified": 1, "anonymous": 2, "anonymous_identified": 1,
              "never_identified": 1, "api_calls": 3}
    assert status == 200
    assert told == {"month": "2026-03", **counts, "by_source": {"web": counts},
                    "by_day": [{"day": "2026-03-01", "mtu": 2, "api_calls": 3}]}
    assert (await call("/v1/usage"))[2] == told  # the present month
    for bad in ("2026-13", "2026", "", "2026-03-01", "%D9%A2026-03", "march"):
        status, _, told = await call(f"/v1/usage?month={bad}")
        assert (status, told["error"]["code"]) == (400, "invalid_request_error")


async def test_operations_audiences_are_listed_with_their_sizes(platform, call):
    platform.audiences = {f"a{at:03}": f"Name {at}" for at in range(105)}
    platform.counted("audience:a001:size", 7)
    _, _, told = await call("/v1/spaces/default/audiences")
    assert told["data"][1] == {"key": "a001", "name": "Name 1", "size": 7}
    assert told["data"][0]["size"] == 0
    assert len(told["data"]) == 100
    _, _, rest = await call(f"/v1/spaces/default/audiences?next={told['cursor']['next']}")
    assert [one["key"] for one in rest["data"]] == [f"a{at:03}" for at in range(100, 105)]
    assert rest["cursor"]["has_more"] is False


async def test_operations_members_come_in_pages_with_when_they_entered(platform, call):
    platform.audiences = {"vip": "VIP", "vip2": "VIP 2"}
    for at in range(25):
        platform.profile(f"use_{at:02}", ids=[("user_id", f"u{at}")])
        platform.member("vip", f"use_{at:02}", NOW_MS - at)
    platform.member("vip2", "use_99")
    path = "/v1/spaces/default/audiences/vip/members"
    seen, following = [], ""
    for size in (10, 10, 5):
        _, _, told = await call(f"{path}?limit=10{following}")
        assert len(told["data"]) == size
        seen += told["data"]
        following = f"&next={told['cursor']['next']}"
    assert told["cursor"]["next"] == ""
    assert [one["segment_id"] for one in seen] == [f"use_{at:02}" for at in range(25)]
    assert seen[1] == {"segment_id": "use_01", "entered_at": "2026-03-01T11:59:59.999Z",
                       "external_ids": [{"type": "user_id", "id": "u1"}]}
    other = (await call(f"{path}?limit=10"))[2]["cursor"]["next"]
    assert (await call(f"{path.replace('vip', 'vip2')}?next={other}"))[0] == 400
    assert (await call(f"{path}?limit=0"))[0] == 400
    status, _, told = await call(path.replace("vip", "none"))
    assert (status, told["error"]["code"]) == (404, "not_found")


async def test_operations_a_journey_is_counted_by_step(platform, call):
    platform.journeys = {"cart": "Cart"}
    for name, value in (("1:hold:arrived", 5), ("1:hold:left", 3), ("2:hold:arrived", 2),
                        ("2:mail:arrived", 1), ("2:mail:left", 1), ("2::entered", 2),
                        ("1::entered", 5), ("1::exit:Order Completed", 1)):
        platform.counted(f"journey:cart:{name}", value)
    platform.counted("journey:cart2:1:hold:arrived", 99)
    status, _, told = await call("/v1/spaces/default/journeys/cart")
    assert status == 200
    assert told["counts"] == {"entered": 7, "exit:Order Completed": 1}
    assert told["steps"] == {"hold": {"arrived": 7, "left": 3, "present": 4},
                             "mail": {"arrived": 1, "left": 1, "present": 0}}
    assert told["versions"]["1"] == {"hold": {"arrived": 5, "left": 3, "present": 2}}
    assert (await call("/v1/spaces/default/journeys/none"))[0] == 404


async def test_operations_no_answer_names_versions_or_paths(platform, call):
    for path in ("/", "/health", "/metrics", "/v1/nothing", "/v1/spaces/default/audiences/x"):
        _, headers, told = await call(path, headers={})
        text = f"{told} {dict(headers)}"
        assert not re.search(r"aiohttp|Python/|Traceback|site-packages|\.py", text)
        assert TOKEN not in text
