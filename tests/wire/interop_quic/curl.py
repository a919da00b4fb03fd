"""curl with HTTP/3, from the PyPI package curl_cffi."""

from importlib.util import find_spec

import trio

from tests.wire.interop_quic.place import WITHIN_S, Answer, Place, Talk

NAME = "curl"


def missing() -> str | None:
    """Return why it cannot run here, or None when it can."""
    return None if find_spec("curl_cffi") else "curl with HTTP/3 is not installed: pip install -e '.[interop]'"


def _talk(place: Place) -> Talk:
    import curl_cffi
    from curl_cffi import CurlHttpVersion, requests

    options = {"verify": str(place.authority), "http_version": CurlHttpVersion.V3ONLY, "timeout": WITHIN_S}
    with requests.Session(**options) as session:
        health = session.get(f"{place.origin}/healthz")
        token = {"authorization": f"Bearer {place.token}"}
        events = session.get(f"{place.origin}{place.events_path}", headers=token, stream=True)
        body = "".join(f"{line.decode()}\n" for line in events.iter_lines())
    return Talk(
        curl_cffi.__curl_version__,
        Answer(health.status_code, health.text, _protocol(health.http_version)),
        Answer(events.status_code, body, _protocol(events.http_version)),
        "".join(f"{name}: {value}\n" for each in (health, events) for name, value in each.headers.items()) + body,
    )


def _protocol(version: int) -> str:
    return "h3" if version in {30, 31} else f"CURL_HTTP_VERSION {version}"  # curl.h


async def talk(place: Place) -> Talk:
    with trio.fail_after(WITHIN_S):
        return await trio.to_thread.run_sync(_talk, place)
