"""What a refusal is over HTTP."""

import json
from http import HTTPStatus

from palyra_trio.core.errors import AlreadyDecided, Busy, NotFound, Unauthenticated
from palyra_trio.transports.api.exchange import HEADERS, HttpResponse, answer, refusal, refused
from palyra_trio.transports.refusals import OF_CODE


def headers(response: HttpResponse) -> dict[str, str]:
    return dict(response.headers)


def test_what_may_succeed_later_says_when() -> None:
    assert headers(refusal(Busy("too many")))["retry-after"] == "1"
    assert "retry-after" not in headers(refusal(NotFound("none")))


def test_who_is_not_known_is_told_how_to_say_it() -> None:
    assert headers(refusal(Unauthenticated("who?")))["www-authenticate"] == "Bearer"


def test_a_refusal_is_problem_details_with_a_code_and_a_remedy() -> None:
    told = refusal(NotFound("there is no run x", remedy="look it up"))
    assert json.loads(told.body) == {
        "title": "Not Found", "status": 404, "detail": "there is no run x", "code": "not_found", "remedy": "look it up"
    }  # fmt: skip
    assert headers(told)["content-type"] == "application/problem+json"


def test_what_http_itself_refuses_has_the_name_of_its_status_as_code() -> None:
    told = refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "no", "send JSON")
    assert headers(told)["content-type"] == "application/problem+json"
    assert (told.status, json.loads(told.body)["code"]) == (415, "unsupported_media_type")
    assert json.loads(told.body)["remedy"] == "send JSON"


def test_a_refusal_that_names_no_remedy_has_that_of_its_code() -> None:
    assert all(meaning.remedy for meaning in OF_CODE.values())
    assert json.loads(refusal(AlreadyDecided("no")).body)["remedy"] == OF_CODE["already_decided"].remedy


def test_no_answer_is_kept_or_framed_or_taken_for_something_else_by_a_browser() -> None:
    told = headers(answer(200, "application/json", b"{}"))
    assert dict(HEADERS).items() <= told.items()
    assert (told["cache-control"], told["x-content-type-options"]) == ("no-store", "nosniff")
    assert not any(name.startswith("access-control-") for name in told)
