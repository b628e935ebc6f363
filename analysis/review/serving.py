"""Starts the server: claims the plan, opens the journal, listens, and says where."""

import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import SplitResult, urlsplit

import cv2
import pyarrow
import uvicorn
from starlette.types import ASGIApp

from analysis.review.connections import MOST_CONNECTIONS, Connection
from analysis.review.gate import Access, Keys
from analysis.review.journal import Journal
from analysis.review.readers import Conflicts, assigned
from analysis.review.reviewers import refuse_alike
from analysis.review.server import make_app
from analysis.review.session import Session
from analysis.review.worklist import ConflictAnswers, Order, Worklist, claim_plan, read_worklist
from bccdist.errors import ConfigurationError
from bccdist.freed_memory import give_back_freed_memory
from bccdist.parts import Part
from bccdist.paths import StudyPaths

LOCAL = "127.0.0.1"
_ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
_KEEP_ALIVE_S = 15


def serve_review(
    study_root: Path,
    *,
    reviewer: str,
    parts: Sequence[Part],
    setting: str | None,
    order: str | None,
    blind_share: float | None,
    seed: int | None,
    readers: Sequence[str] | None,
    overlap: float | None,
    conflict_answers: str | None,
    decides: bool,
    host: str,
    port: int,
    address: str | None,
    with_token: bool,
    is_new_reviewer: bool = False,
    listed: Path | None = None,
) -> None:
    """Serve the review page of one reviewer until it is interrupted.

    Args:
        study_root: the study's folder.
        reviewer: who labels.
        parts: whose slides are reviewed.
        setting: the one that orders sections and fills in labels; None is the best.
        order: slide, distance or random; None is what the review was begun with.
        blind_share: share of blind sections, 0 to 1; None is what the review was begun with.
        seed: decides which are blind; None is what the review was begun with.
        readers: to whom the sections are dealt; None is what the review was begun with.
        overlap: share of the sections that all readers read; None is what the review was begun with.
        conflict_answers: whether who decides sees the answers: hidden or shown; None is what it was begun with.
        decides: whether the reviewer decides between readers who differ, and reads nothing else.
        host: address to listen on.
        port: 0 takes any that is free.
        address: the address at which a proxy shows the page; None where there is no proxy.
        with_token: whether the page needs a token.
        is_new_reviewer: whether the reviewer is somebody else than those whose names are nearly the same.
        listed: a CSV that names the sections to be reviewed; None is all.

    Raises:
        ConfigurationError: the folder is no study, the review was begun otherwise, the reviewer's name is nearly that
            of another one, another server of this reviewer is at work, the address cannot be had, or other machines
            would need no token.
        LedgerError: nothing was selected, or there is nothing to review.
        EventLogError: the reviewer's journal is damaged.
    """
    if not with_token and (host != LOCAL or address is not None):
        raise ConfigurationError(
            f"--no-token is for {LOCAL} alone, not for {address or host}: leave one of the two out"
        )
    proxied = None if address is None else proxied_at(address)
    claim = partial(
        claim_plan,
        StudyPaths(study_root).review_plan,
        order=cast("Order | None", order),
        blind_share=blind_share,
        seed=seed,
        readers=readers,
        overlap=overlap,
        conflict_answers=cast("ConflictAnswers | None", conflict_answers),
    )
    # Before anything is read: arrow's own pool would keep what it once needed, and its threads arenas of their own.
    give_back_freed_memory()
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    # A start that comes to nothing claims nothing.
    worklist = read_worklist(study_root, parts, claim(dry_run=True), setting=setting, listed=listed)
    if not is_new_reviewer:
        refuse_alike(worklist.paths, reviewer, worklist.plan.readers)
    shared = _shared_note(worklist)
    conflicts = Conflicts(worklist, reviewer) if decides else None
    worklist = assigned(worklist, reviewer) if conflicts is None else conflicts.worklist
    with listen(host, port) as listener, Journal(worklist.paths, reviewer) as journal:
        access = access_of(host, listener.getsockname()[1], proxied)
        keys = Keys() if with_token else None
        say_address = partial(_say_address, host, access, keys)
        with journal.kept_if_all_goes_well():
            server = _server_of(make_app(Session(worklist, journal, conflicts), access, keys, say_address))
            claim()
        for note in (
            shared,
            journal.note,
            journal.said.unknown_note,
            unplaced_note(worklist.num_unplaced),
            openness_note(host),
        ):
            if note:
                print(note, flush=True)
        print(f"{len(worklist.sections)} sections on {len(worklist.by_slide)} slides; {journal.path}")
        say_address()
        print("stop with Ctrl-C", flush=True)
        # Tiles are decoded by several threads already.
        cv2.setNumThreads(1)
        server.run(sockets=[listener])


def _server_of(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        http=Connection,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigurationError: the address is none of this machine, or taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"{host}, port {port}: cannot listen there: {error}; give another --port (0 takes any), or --host"
        ) from error
    # Connections inherit it. Without it every tile waits 40 ms: its body is held back until its head is acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def proxied_at(address: str) -> SplitResult:
    """The address at which a proxy shows the page, taken apart.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment:
        raise ConfigurationError(
            f"--address is {address!r}, expected what is opened in a browser, as https://hub.example/user/anna/review/"
        )
    return parts._replace(path=f"{parts.path.rstrip('/')}/")


def access_of(host: str, port: int, proxied: SplitResult | None = None) -> Access:
    """Who may ask a server that listens on `host`, and is shown at `proxied` by a proxy."""
    names = {"localhost", LOCAL, "::1", host.lower()}
    is_everywhere = host in _ALL_ADDRESSES
    if is_everywhere:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    if proxied is not None:
        names.add((proxied.hostname or "").lower())
    return Access(port=port, names=frozenset(names), any_address=is_everywhere, proxied=proxied)


def address_of(host: str, access: Access, keys: Keys | None) -> str:
    """What to open in a browser."""
    name = socket.gethostname() if host in _ALL_ADDRESSES else host
    place = f"http://{f'[{name}]' if ':' in name else name}:{access.port}/"
    if access.proxied is not None:
        place = access.proxied.geturl()
    return place if keys is None else f"{place}?token={keys.token}"


def _shared_note(worklist: Worklist) -> str:
    """How many sections all readers read: each is dealt by a chance of its own, so it is about the stated share."""
    if not worklist.plan.readers:
        return ""
    num = sum(worklist.plan.is_shared(each.slide_id, each.section_id) for each in worklist.sections)
    return f"{num} of all {len(worklist.sections)} sections are dealt to all readers"


def _say_address(host: str, access: Access, keys: Keys | None) -> None:
    print(f"open {address_of(host, access, keys)}", flush=True)


def unplaced_note(num_unplaced: int) -> str:
    """What is said of sections that cannot be shown."""
    if not num_unplaced:
        return ""
    return (
        f"{num_unplaced} section(s) of the manifest are NOT shown: they have no box, and their slides were not "
        "inferred; run the inference stage, or jobs/find_sections.py"
    )


def openness_note(host: str) -> str:
    """What is said where other machines come in."""
    if host == LOCAL:
        return ""
    return (
        f"listening on {host}: what is sent is NOT encrypted, the token neither; on a network that is not your own, "
        f"leave --host out and come in through a tunnel (ssh -L PORT:{LOCAL}:PORT)"
    )
