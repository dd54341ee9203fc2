"""What an answer means."""

import pytest

from destinations.verdict import NETWORK, judge, reason


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
def test_delivery_s2_any_2xx_is_delivered(status):
    assert judge(status, "") == "delivered"


@pytest.mark.parametrize(
    "status", [408, 423, 425, 429, 500, *range(502, 512), 529, 598, 599, 520, 524]
)
def test_delivery_s2_what_may_pass_is_tried_again(status):
    assert judge(status, "") == "retry"


@pytest.mark.parametrize(
    "status",
    [100, 199, 301, 302, 304, 307, 308, 400, 401, 402, 403, 404, 405, 409, 410, 411, 413, 414, 415,
     418, 422, 451, 499, 501, 600, 999],
)
def test_delivery_s2_what_will_not_pass_is_discarded(status):
    assert judge(status, "") == "discard"


@pytest.mark.parametrize("code", sorted(NETWORK))
def test_delivery_s2_no_answer_is_tried_again(code):
    assert judge(0, code) == "retry"


@pytest.mark.parametrize("code", ["INVALID_SETTINGS", "address_refused"])
def test_delivery_s2_what_only_a_person_can_mend_is_discarded(code):
    assert judge(0, code) == "discard"


def test_delivery_s2_the_reason_is_the_status_or_what_went_wrong():
    assert reason(404, "") == "404"
    assert reason(0, "ETIMEDOUT") == "ETIMEDOUT"
