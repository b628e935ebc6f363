"""Who may ask: the token, names of this machine, no other pages; and what every answer carries."""

import http.client
from collections.abc import Iterator

import httpx
import pytest
from review_study import listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from analysis.review.gate import LARGEST_BODY_BYTES, Access, Gate

TOKEN = "right-token"  # noqa: S105 - of a test
NAMES = frozenset({"localhost", "127.0.0.1", "::1", "node7"})


async def _echo(request: Request) -> Response:
    return PlainTextResponse(f"{request.method} {len(await request.body())}")


def gated(token: str | None = TOKEN, *, any_address: bool = False) -> Gate:
    routes = [Route("/{path:path}", _echo, methods=["GET", "POST"])]
    return Gate(Starlette(routes=routes), Access(token=token, port=1234, names=NAMES, any_address=any_address))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(gated()) as port:
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
        assert (first.status_code, first.headers["location"]) == (303, "/")
        cookie = first.headers["set-cookie"]
        assert cookie == f"review_1234={TOKEN}; HttpOnly; SameSite=Strict; Path=/"
        assert client.get("/api/study").text == "GET 0"
        assert client.post("/api/answers", json={}).text == "POST 2"


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
    access = Access(token=TOKEN, port=1, names=NAMES, any_address=True)
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
