"""Review sections in a browser: `python jobs/review.py STUDY --reviewer "NAME"`; answers: `--export OUT`."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from bccdist.command import run_command
from bccdist.configuration import Setting
from bccdist.errors import ConfigurationError
from bccdist.parts import Part
from bccdist.study import refuse_address


@dataclass(frozen=True, kw_only=True)
class ReviewArguments:
    """Serve a local page on which a pathologist sees slides with predictions, labels sections and corrects regions."""

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of the study; its thresholds must be selected."""
    reviewer: str = ""
    """Name of who labels; every reviewer has a journal of their own."""
    new_reviewer: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """This reviewer is not the one whose name differs by case, dots or signs alone."""
    host: str = "127.0.0.1"
    """Address to listen on; with any other than this one, other machines come in, too, who have the token."""
    port: int = 8765
    """Port to listen on; 0 takes any that is free."""
    address: str | None = None
    """Address at which a proxy shows the page, as https://hub.example/user/anna/review/; leave it out without one."""
    no_token: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let everybody in who can reach 127.0.0.1."""
    parts: tuple[str, ...] = (Part.TEST.value,)
    """Parts whose slides are shown: Training, Validation I, Validation II, Test; or train, val1, val2, test."""
    setting: str | None = None
    """Setting that orders the sections and fills in labels; default is the one with the best F_beta."""
    order: Literal["slide", "distance", "random"] | None = None
    """Order of sections: blind ones first, then slide (default: one slide after the other), distance (nearest to the
    decision first) or random. The first reviewer's holds."""
    blind_share: float | None = None
    """Share of sections shown without prediction until answered; the first reviewer's holds for all. Default: 0.2."""
    readers: tuple[str, ...] | None = None
    """Names of those to whom the sections are dealt; the first reviewer's hold for all. Default: all read all."""
    overlap: float | None = None
    """Share of the sections that all --readers read; each of the others is read by one of them. Default: 1."""
    worklist: Path | None = None
    """A CSV with slide_id, section_id and label: these sections alone, as `analysis/transfer.py` lists them."""
    conflicts: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the sections on which readers differ, to decide between them; for somebody who did not read them."""
    conflict_answers: Literal["hidden", "shown"] | None = None
    """Whether who decides sees what the readers said; the first reviewer's holds for all. Default: hidden."""
    progress: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print how far each reader is, and serve nothing."""
    seed: int | None = None
    """Seed of the blind share, the dealing and the random order; the first reviewer's holds for all. Default: 0."""
    audit: Setting | None = None
    """Setting whose audit of the annotations is gone through, in place of sections; with --export it is written."""
    export: Path | None = None
    """Write what all reviewers said into this folder, and serve nothing."""
    export_hard: Path | None = None
    """Write sections that contradict the model as a manifest for extra shards into this folder, and serve nothing."""


def main(arguments: ReviewArguments) -> None:
    """Serve, export, or say how far readers are.

    Raises:
        ConfigurationError: the study is an address, a part is unknown, or the web server's packages are not installed.
    """
    refuse_address(arguments.study)
    if arguments.export is not None or arguments.export_hard is not None:
        _export(arguments)
        return
    if arguments.audit is not None:
        _serve_audit(arguments, arguments.audit)
        return
    parts = [Part.parse(part) for part in arguments.parts]
    if arguments.progress:
        from analysis.review.readers import study_progress

        print(study_progress(arguments.study, parts, setting=arguments.setting))
        return
    try:
        # Imported here, so that --help and exports need no web server.
        from analysis.review.serving import serve_review
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the review page needs the package {error.name}: pip install 'bccdist[review]'"
        ) from error
    serve_review(
        arguments.study,
        reviewer=arguments.reviewer,
        parts=parts,
        setting=arguments.setting,
        order=arguments.order,
        blind_share=arguments.blind_share,
        seed=arguments.seed,
        readers=arguments.readers,
        overlap=arguments.overlap,
        conflict_answers=arguments.conflict_answers,
        decides=arguments.conflicts,
        host=arguments.host,
        port=arguments.port,
        address=arguments.address,
        with_token=not arguments.no_token,
        is_new_reviewer=arguments.new_reviewer,
        listed=arguments.worklist,
    )


def _serve_audit(arguments: ReviewArguments, setting: Setting) -> None:
    try:
        from analysis.review.audit.serving import serve_audit
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the review page needs the package {error.name}: pip install 'bccdist[review]'"
        ) from error
    serve_audit(
        arguments.study,
        setting=setting,
        reviewer=arguments.reviewer,
        host=arguments.host,
        port=arguments.port,
        address=arguments.address,
        with_token=not arguments.no_token,
    )


def _export(arguments: ReviewArguments) -> None:
    if arguments.audit is not None:
        from analysis.review.audit.export import export_audit

        if arguments.export is None:
            raise ConfigurationError(
                "--export-hard is about sections, not about an audit: give --export, or no --audit"
            )
        print(export_audit(arguments.study, arguments.audit, arguments.export))
        return
    from analysis.review.export import export_review
    from analysis.review.hard_sections import export_hard_sections

    if arguments.export is not None:
        print(export_review(arguments.study, arguments.export))
    if arguments.export_hard is not None:
        print(export_hard_sections(arguments.study, arguments.export_hard, setting=arguments.setting))


if __name__ == "__main__":
    # A shell that starts it in the background has it ignore interrupts; one before the server listens would be lost.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command(lambda: main(tyro.cli(ReviewArguments)), if_interrupted="stopped; all answers are kept")
