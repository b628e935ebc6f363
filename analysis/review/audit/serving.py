"""Starts the server of the audit's page, and says where."""

from functools import partial
from pathlib import Path

import cv2
import uvicorn

from analysis.review.answers import file_name_of
from analysis.review.audit.server import make_app
from analysis.review.audit.session import AuditSession
from analysis.review.connections import MOST_CONNECTIONS, Connection
from analysis.review.gate import Keys
from analysis.review.serving import LOCAL, access_of, address_of, listen, openness_note, proxied_at
from bccdist.errors import ConfigurationError
from bccdist.paths import StudyPaths


def serve_audit(
    study_root: Path, *, setting: str, reviewer: str, host: str, port: int, address: str | None, with_token: bool
) -> None:
    """Serve the audit's page of one reviewer until it is interrupted.

    Raises:
        ConfigurationError: the folder is no study, the name is none, or the address cannot be had.
        LedgerError: there is no audit of this setting.
    """
    if not with_token and (host != LOCAL or address is not None):
        raise ConfigurationError(
            f"--no-token is for {LOCAL} alone, not for {address or host}: leave one of the two out"
        )
    proxied = None if address is None else proxied_at(address)
    file_name_of(reviewer)
    session = AuditSession(StudyPaths(study_root), setting, reviewer)
    with listen(host, port) as listener:
        access = access_of(host, listener.getsockname()[1], proxied)
        keys = Keys() if with_token else None
        if note := openness_note(host):
            print(note, flush=True)
        num_slides = len(session.by_slide)
        print(f"{len(session.rows)} outlines and regions on {num_slides} slides, the first {session.num_first} first")

        say_address = partial(lambda: print(f"open {address_of(host, access, keys)}", flush=True))
        say_address()
        print("stop with Ctrl-C", flush=True)
        cv2.setNumThreads(1)
        config = uvicorn.Config(
            make_app(session, access, keys, say_address),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            http=Connection,
            limit_concurrency=MOST_CONNECTIONS,
        )
        uvicorn.Server(config).run(sockets=[listener])
