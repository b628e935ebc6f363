"""Who may ask: the token, names of this machine, no other pages; and what every answer carries."""

import http.client
import re
from collections.abc import Iterator

import httpx
import pytest
from review_study import listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from analysis.review.gate import LARGEST_BODY_BYTES, Access, Gate, Keys
from analysis.review.serving import proxied_at

TOKEN = "right-token"  # noqa: S105 - of a test
NAMES = frozenset({"localhost", "127.0.0.1", "::1", "node7"})


async def _echo(request: Request) -> Response:
    return PlainTextResponse(f"{request.method} {len(await request.body())}")


def gated(keys: Keys | None, proxied: str | None = None) -> Gate:
    routes = [Route("/{path:path}", _echo, methods=["GET", "POST"])]
    place = None if proxied is None else proxied_at(proxied)
    names = NAMES if place is None else NAMES | {place.hostname or ""}
    return Gate(Starlette(routes=routes), Access(port=1234, names=names, proxied=place), keys)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    keys = Keys()
    keys.token = TOKEN
    with listening(gated(keys)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def open_url() -> Iterator[str]:
    with listening(gated(None)) as port:
        yield f"http://127.0.0.1:{port}"


def test_without_the_token_nothing_is_said(url: str) -> None:
    for path in ("/", "/api/study", "/tiles/a/1/0_0.jpeg", "/static/review.js", "/?token=wrong", "/?token="):
        answer = httpx.get(url + path)
        assert answer.status_code == 403
        assert set(answer.json()) == {"error"}
        assert TOKEN not in answer.text


def test_the_picture_that_browsers_ask_for_by_themselves_is_no_refusal(url: str) -> None:
    answer = httpx.get(f"{url}/favicon.ico")
    assert (answer.status_code, answer.content) == (204, b"")


def test_the_token_in_the_address_becomes_a_cookie_that_opens_all(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        first = client.get(f"/?token={TOKEN}")
        assert (first.status_code, first.headers["location"]) == (303, "./")
        cookie = first.headers["set-cookie"]
        assert re.fullmatch(r"review_1234=[\w-]{32}; HttpOnly; SameSite=Lax", cookie)
        assert TOKEN not in cookie
        assert client.get("/api/study").text == "GET 0"
        assert client.post("/api/answers", json={}).text == "POST 2"


def test_what_is_revoked_opens_nothing_and_whoever_revokes_stays() -> None:
    keys = Keys()
    with listening(gated(keys)) as port, httpx.Client() as owner, httpx.Client() as thief:
        owner.base_url = thief.base_url = httpx.URL(f"http://127.0.0.1:{port}")
        old = keys.token
        for client in (owner, thief):
            client.get(f"/?token={old}")
            assert client.get("/api/study").status_code == 200
        assert owner.post("/revoke", json={}).status_code == 204
        assert owner.get("/api/study").status_code == 200
        assert thief.get("/api/study").status_code == 403
        assert thief.get(f"/?token={old}").status_code == 403
        assert thief.post("/revoke", json={}).status_code == 403
        assert thief.get(f"/?token={keys.token}").status_code == 303


def test_two_runs_of_a_server_have_nothing_in_common() -> None:
    one, other = Keys(), Keys()
    assert len({one.token, one.cookie, other.token, other.cookie}) == 4


@pytest.mark.parametrize("takes_its_part_off", [True, False])
def test_behind_a_proxy_the_page_lies_below_a_path(takes_its_part_off: bool) -> None:
    keys = Keys()
    there = "" if takes_its_part_off else "/user/anna/review"
    with listening(gated(keys, "https://hub.example/user/anna/review")) as port:
        url = f"http://127.0.0.1:{port}{there}"
        with httpx.Client(headers={"host": "hub.example", "origin": "https://hub.example"}) as client:
            first = client.get(f"{url}/?token={keys.token}")
            assert (first.status_code, first.headers["location"]) == (303, "./")
            cookie = first.headers["set-cookie"]
            assert cookie.endswith("; HttpOnly; SameSite=Lax; Secure"), (
                "and no path of its own: below the page's alone"
            )
            given = {"cookie": cookie.split(";")[0]}
            assert client.get(f"{url}/api/study", headers=given).headers["cache-control"] == "private, no-store"
            assert client.post(f"{url}/api/answers", json={}, headers=given).text == "POST 2"
            foreign = {**given, "origin": "https://other.example"}
            assert client.get(f"{url}/api/study", headers=foreign).status_code == 403


@pytest.mark.parametrize("path", [f"/api/study?token={TOKEN}", f"/static/a?token={TOKEN}"])
def test_the_token_counts_at_the_front_door_alone(url: str, path: str) -> None:
    assert httpx.get(url + path).status_code == 403


@pytest.mark.parametrize("cookie", ["review_1234=wrong", "review_1=right-token", "right-token", "=;;=,\x7f"])
def test_other_cookies_open_nothing(url: str, cookie: str) -> None:
    assert httpx.get(f"{url}/api/study", headers={"cookie": cookie}).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "10.0.0.8", ""])
def test_a_foreign_name_that_points_here_is_refused(open_url: str, host: str) -> None:
    answer = httpx.get(f"{open_url}/api/study", headers={"host": host})
    assert answer.status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:80", "node7"])
def test_the_servers_own_names_are_right(open_url: str, host: str) -> None:
    assert httpx.get(f"{open_url}/api/study", headers={"host": host}).status_code == 200


def test_a_server_on_all_addresses_answers_to_addresses_but_not_to_foreign_names() -> None:
    access = Access(port=1, names=NAMES, any_address=True)
    assert access.is_name("10.0.0.8:8765")
    assert not access.is_name("evil.example")
    assert not access.is_name("1.2.3.4.evil.example")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost.evil.example"])
def test_another_page_may_not_ask(open_url: str, origin: str) -> None:
    assert httpx.get(f"{open_url}/api/study", headers={"origin": origin}).status_code == 403


def test_the_own_page_may_ask(open_url: str) -> None:
    assert httpx.get(f"{open_url}/api/study", headers={"origin": "http://localhost:80"}).status_code == 200


def test_a_form_of_another_page_is_refused(open_url: str) -> None:
    assert httpx.post(f"{open_url}/api/answers", data={"id": "a"}).status_code == 415
    assert (
        httpx.post(f"{open_url}/api/answers", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    )


def test_a_body_must_say_its_length_and_be_small_enough(open_url: str) -> None:
    json_type = {"content-type": "application/json"}
    assert httpx.post(f"{open_url}/x", content=iter([b"{}"]), headers=json_type).status_code == 411
    assert httpx.post(f"{open_url}/x", content=bytes(LARGEST_BODY_BYTES), headers=json_type).status_code == 200
    host, port = open_url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.putrequest("POST", "/x")
    for name, value in {**json_type, "content-length": str(LARGEST_BODY_BYTES + 1)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    ("path", "caching"),
    [("/api/x", "private, no-store"), ("/tiles/x", "private, max-age=3600"), ("/static/x", "private, no-cache")],
)
def test_every_answer_carries_the_headers(open_url: str, path: str, caching: str) -> None:
    headers = httpx.get(open_url + path).headers
    assert headers["cache-control"] == caching
    assert headers["content-security-policy"].startswith("default-src 'self'; img-src 'self' data: blob:")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
