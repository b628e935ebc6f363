"""The routes of the review viewer: what the page asks for, and what it sends (paper, section 3.2).

A route is one function of the session and what was asked; it returns what becomes JSON, or a response. Of a slide with
a blind section that is not answered yet, neither prediction nor annotation of any section leaves the server.
"""

import gzip
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from starlette.responses import FileResponse, Response

from analysis.review.agreement import agreement_report
from analysis.review.answers import Answer, GivenAnswer, GivenAs, OutlineChange, Step, Withdrawal, now, read_journals
from analysis.review.asked import Asked, refuse
from analysis.review.corrections import MOST_FEATURES, checked_ids, checked_regions
from analysis.review.geojson import Feature, collection
from analysis.review.layers import annotation_features, heatmap_piece
from analysis.review.predicted import call_json, predicted, predicted_json
from analysis.review.readers import progress_by_reader
from analysis.review.session import Session
from analysis.review.tiles import OVERLAP_PX, TILE_PX, SlideFacts, error_tile
from analysis.review.worklist import Worklist, WorkSection, in_order, outdated_warning
from bccdist.configuration import Setting, outputs_of, phantom_warning
from bccdist.errors import AnnotationError
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_heatmap import open_chosen
from bccdist.slides.geometry import Box

STATIC = Path(__file__).parent / "static"
MOST_HEATMAP_PX = 4096
"""The greatest length of a piece's longer side."""
HASTY_S = 0.5
"""An answer that comes sooner after the one before is marked: nobody looks so fast, but a key is soon hit twice."""
_ERROR_HEADER_CHARACTERS = 300
_MOST_LEVEL = 40
_TILE_NAME = re.compile(r"([0-9]{1,7})_([0-9]{1,7})\.jpe?g")


def page(_: Session, __: Asked) -> Response:
    """The page itself."""
    return FileResponse(STATIC / "index.html")


def study(session: Session, _: Asked) -> Mapping[str, Any]:
    """What the page has to know at its start."""
    worklist, plan, said = session.worklist, session.worklist.plan, session.journal.said
    slides = worklist.manifest.is_phantom or bool(worklist.rows.frame["phantom"].any())
    drawn = phantom_warning(slides=slides, weights=any(each.phantom_weights for each in worklist.choices.values()))
    warning = " ".join(filter(None, [drawn, outdated_warning(worklist)]))
    return {
        "name": worklist.paths.root.resolve().name,
        "phantom": slides,
        "warning": warning or None,
        "reviewer": said.reviewer,
        # What a browser keeps for one journal must not reach another: of a study of the same name, for instance.
        "journal": f"{worklist.paths.root.resolve().name}, {said.reviewer}, begun {said.begun_at}",
        "order": plan.order,
        "decides": worklist.others is not None,
        "blind_share": plan.blind_share,
        "settings": [_setting_json(choice) for choice in worklist.choices.values()],
        "headline": worklist.headline.setting,
        "answers": [answer.value for answer in Answer],
        "num_unplaced": worklist.num_unplaced,
    }


def _setting_json(choice: Choice) -> dict[str, Any]:
    psis = outputs_of(cast("Setting", choice.setting))
    return {
        "setting": choice.setting,
        "epoch": choice.epoch,
        "psis": list(psis),
        "final": psis[-1],
        "t_p": choice.t_p,
        "t_a_um2": choice.t_a_um2,
        "area_unit": choice.area_unit,
    }


def sections(session: Session, _: Asked) -> Mapping[str, Any]:
    """All sections in the order of review, as they are by now."""
    session.refresh()
    worklist, version, closed = session.worklist, session.list_version, session.opened.closed
    ordered = in_order(worklist.sections, worklist.plan, worklist.headline.setting, closed)
    return {"version": version, "sections": _sections_json(session, ordered)}


def _sections_json(session: Session, wanted: Iterable[WorkSection]) -> list[dict[str, Any]]:
    opened = session.opened
    latest = opened.standing.latest
    num_left = {slide_id: opened.num_left(slide_id) for slide_id in opened.closed}
    return [
        _section_json(session, section, latest.get(section.key), num_left=num_left.get(section.slide_id, 0))
        for section in wanted
    ]


def _section_json(
    session: Session, section: WorkSection, latest: GivenAnswer | None, *, num_left: int
) -> dict[str, Any]:
    """A section as the page knows it, with the answer that counts; what is hidden is not there at all."""
    revealed = not num_left
    shown = {
        "id": section.key,
        "slide_id": section.slide_id,
        "section_id": section.section_id,
        "part": section.part.value,
        "box_level0_px": list(section.box_level0_px),
        # Too little coverage, or a reason against the model, is what makes a verdict `review`.
        "coverage": section.coverage if revealed else None,
        "not_assessable": section.not_assessable if revealed else "",
        "blind": section.is_blind,
        "answer": latest and latest.answer.value,
        "answered_at": latest and latest.at,
        "comment": latest.comment if latest else "",
        "hasty": bool(latest and latest.is_hasty),
        "given_as": latest and latest.given_as,
        "revealed": revealed,
        # Blind sections of its slide that are to be called Tumor or Normal before anything is shown.
        "num_blind_left": num_left,
        "others": _others_json(session.worklist, section, latest),
    }
    if not revealed:
        return shown
    return {
        **shown,
        "label": section.label,
        "prefilled": section.prefilled,
        "verdicts": {setting: call_json(call) for setting, call in section.calls.items()},
    }


def _others_json(worklist: Worklist, section: WorkSection, latest: GivenAnswer | None) -> list[dict[str, str]] | None:
    """What the readers said between whom is decided; None where that is not shown, or not yet."""
    if worklist.others is None:
        return None
    is_decided = latest is not None and latest.answer is not Answer.UNSURE
    if worklist.plan.conflict_answers == "hidden" and not is_decided:
        return None
    return [
        {"reviewer": reviewer, "answer": given.answer.value, "comment": given.comment}
        for reviewer, given in worklist.others[section.key]
    ]


def progress(session: Session, _: Asked) -> Mapping[str, Any]:
    """How many sections are answered, in all and by part."""
    answered = session.latest.keys()
    by_part: dict[str, dict[str, int]] = {}
    for section in session.worklist.sections:
        counts = by_part.setdefault(section.part.value, {"total": 0, "answered": 0})
        counts["total"] += 1
        counts["answered"] += section.key in answered
    sums = {name: sum(counts[name] for counts in by_part.values()) for name in ("total", "answered")}
    return {**sums, "by_part": by_part}


def agreement(session: Session, _: Asked) -> Mapping[str, Any]:
    """Agreement between all reviewers of the study, and anchoring; sections that are hidden here count nowhere."""
    plan, by_slide, closed = session.worklist.plan, session.worklist.by_slide, session.opened.closed

    def is_hidden(answer: GivenAnswer) -> bool:
        # Of slides that are not under review here nobody knows whether this reader will answer them later.
        is_elsewhere = answer.slide_id not in by_slide and plan.is_blind(answer.slide_id, answer.section_id)
        return answer.slide_id in closed or is_elsewhere

    return agreement_report(read_journals(session.worklist.paths), is_hidden)


def readers(session: Session, _: Asked) -> Mapping[str, Any]:
    """How far each reader is; not what they said, so that nobody is led by it."""
    return {"readers": progress_by_reader(session.worklist, read_journals(session.worklist.paths))}


def slide(session: Session, asked: Asked) -> Mapping[str, Any]:
    """Size, scale and pyramid levels of a slide."""
    facts = session.tiles.facts(asked.slide_id)
    return {
        "slide_id": asked.slide_id,
        "width": facts.width,
        "height": facts.height,
        "mpp": facts.mpp or None,
        "tile_px": TILE_PX,
        "overlap": OVERLAP_PX,
        "min_level": facts.min_level,
        "max_level": facts.max_level,
        "profile": facts.profile and facts.profile.name,
        "profile_fault": facts.profile_fault,
        "file": session.worklist.manifest.slide(asked.slide_id).path.name,
        "error": facts.error,
    }


def tile(session: Session, asked: Asked) -> Response:
    """A tile of a slide, with `profile=no` in the file's own colours.

    One that cannot be read is grey, and says why in a header.
    """
    slide_id, level = asked.slide_id, asked.request.path_params["level"]
    place = _TILE_NAME.fullmatch(asked.request.path_params["name"])
    if place is None or level > _MOST_LEVEL:
        refuse(404, "no such tile")
    col, row = map(int, place.groups())
    try:
        in_profile = asked.request.query_params.get("profile") != "no"
        content = session.tiles.tile(slide_id, level, col, row, in_profile=in_profile)
    except Exception as error:  # noqa: BLE001 - whatever a slide is poisoned with, the page says so and goes on
        reason = f"{type(error).__name__}: {error}".encode("ascii", "replace").decode().replace("\n", " ")
        headers = {"X-Tile-Error": reason[:_ERROR_HEADER_CHARACTERS], "Cache-Control": "no-store"}
        return Response(error_tile(), media_type="image/jpeg", headers=headers)
    if content is None:
        refuse(404, "no such tile")
    return Response(content, media_type="image/jpeg")


def heatmap(session: Session, asked: Asked) -> Response:
    """A piece of a heatmap as PNG; the header X-Box says what it covers, in level-0 px."""
    worklist, slide_id = session.worklist, asked.slide_id
    choice, psi, box_level0_px = worklist.choices[asked.setting], asked.psi, asked.box_level0_px
    max_px = min(max(1, round(asked.number("max_px", 1024.0))), MOST_HEATMAP_PX)
    key = (choice.setting, slide_id)
    opened = session.heatmaps.get(key, lambda: open_chosen(worklist.paths, choice, slide_id))
    whole_level0_px = Box(0, 0, *opened.attributes.size_level0_px)
    piece = heatmap_piece(
        opened,
        psi,
        box_level0_px or whole_level0_px,
        max_px=max_px,
        is_hidden=slide_id in session.opened.closed,
        tissue=session.tissue(slide_id, opened.attributes.mpp).tissue,
    )
    covered = ",".join(f"{side:.10g}" for side in piece.box_level0_px)
    return Response(piece.png, media_type="image/png", headers={"X-Box": covered})


def annotations(session: Session, asked: Asked) -> Feature:
    """What is annotated on a slide; nothing of one that is closed."""
    slide_id, manifest = asked.slide_id, session.worklist.manifest
    if slide_id in session.opened.closed:
        return collection([])
    record, mpp = manifest.slide(slide_id), _readable(session, slide_id).mpp
    key = ("annotations", slide_id)
    features = session.features.get(key, lambda: annotation_features(record, manifest.kinds, mpp))
    return collection(features)


def regions(session: Session, asked: Asked) -> Feature | Response:
    """The regions of a slide that a setting predicts at a psi and a t_p, and the verdicts that rest on them.

    None of a slide that is closed.
    """
    setting, slide_id = asked.setting, asked.slide_id
    choice = session.worklist.choices[setting]
    psi, t_p = asked.psi_of(choice), asked.number("t_p", choice.t_p)
    if not 0 < t_p <= 1:
        refuse(400, f"t_p is {t_p}, expected above 0 to 1")
    if slide_id in session.opened.closed:
        return {**collection([]), **predicted_json({}, choice=choice, psi=psi, t_p=t_p)}
    key = ("regions", setting, slide_id, psi, t_p)
    found = session.features.get(
        key,
        lambda: predicted(session.worklist, setting, slide_id, psi=psi, t_p=t_p, find_regions=session.packed_regions),
    )
    if "gzip" in asked.request.headers.get("accept-encoding", ""):
        return Response(found, media_type="application/json", headers={"content-encoding": "gzip"})
    return Response(gzip.decompress(found), media_type="application/json")


def drawn_regions(session: Session, asked: Asked) -> Feature:
    """The regions of a slide that this reviewer drew last."""
    drawn = session.journal.said.latest_regions.get(asked.slide_id)
    return collection(dict(each) for each in (drawn.features if drawn else ()))


def keep_regions(session: Session, asked: Asked) -> Mapping[str, Any]:
    """Keep what the reviewer drew on a slide, and what was taken off it; returns the outlines as they are kept."""
    unknown = asked.content.keys() - {"entry", "added", "removed"}
    if unknown:
        refuse(400, f"unknown fields {sorted(unknown)}")
    facts = _readable(session, asked.slide_id)
    added = checked_regions(asked.content.get("added", []), size_level0_px=(facts.width, facts.height))
    removed = checked_ids(asked.content.get("removed", []))
    drawn = session.journal.said.latest_regions.get(asked.slide_id)
    there = {each["id"] for each in (drawn.features if drawn else ())} - set(removed) | {each["id"] for each in added}
    if len(there) > MOST_FEATURES:
        refuse(400, f"the slide would have {len(there)} outlines, expected at most {MOST_FEATURES}")
    change = OutlineChange(at=now(), slide_id=asked.slide_id, added=added, removed=removed, entry=asked.entry)
    return {"added": cast("OutlineChange", _kept(session, change)).added}


def _kept(session: Session, step: Step) -> Step:
    """Keep a step, or find the one of the same entry that was kept already.

    Raises:
        HTTPException: another step has this entry.
    """
    kept = session.journal.add(step)
    if type(kept) is not type(step) or kept.content != step.content:
        refuse(409, f"the entry {step.entry} was kept with other content at {kept.at}; send it under a new name")
    return kept


def keep_answer(session: Session, asked: Asked) -> Mapping[str, Any]:
    """Keep an answer, and say what its section is; of a blind one the others of the slide too, which it may open."""
    section, content = asked.answered_section, asked.content
    headline = session.worklist.headline
    call = section.calls.get(headline.setting)
    # Before the answer is kept: it may open the slide, and what led to it is what was seen before.
    was_shown = section.slide_id not in session.opened.closed
    given_as = GivenAs(content.get("given_as", GivenAs.ANSWER))
    if session.worklist.others is not None:
        given_as = GivenAs.DECISION
    if given_as is GivenAs.REST and not (was_shown and content["answer"] == section.prefilled):
        refuse(400, f"{section.key}: the rest of a slide is confirmed only where a verdict was shown; answer this one")
    at = now()
    given = GivenAnswer(
        entry=asked.entry,
        at=at,
        slide_id=section.slide_id,
        section_id=section.section_id,
        answer=Answer(content["answer"]),
        comment=content.get("comment", ""),
        seconds=float(content.get("seconds", 0.0)),
        is_blind=section.is_blind,
        was_shown=was_shown,
        prefilled=section.prefilled if was_shown else "",
        prediction="" if call is None else call.verdict,
        label_before=section.label,
        setting=headline.setting,
        epoch=headline.epoch,
        weights_digest=headline.weights_digest,
        viewed=content.get("viewed") or {},
        is_hasty=given_as is not GivenAs.REST and _since_last_s(session, content, at) < HASTY_S,
        given_as=given_as,
        batch=content.get("batch", ""),
    )
    _kept(session, given)
    return {
        "section": _sections_json(session, [section])[0],
        "sections": _sections_json(session, _touched(session, given)),
    }


def _since_last_s(session: Session, content: Mapping[str, Any], at: str) -> float:
    """Seconds since the answer before: by the page's clock, as what could not be sent comes at once later."""
    if "since_last_s" in content:
        since_s = content["since_last_s"]
        return math.inf if since_s is None else float(since_s)
    given = session.journal.said.answers
    if not given:
        return math.inf
    return (datetime.fromisoformat(at) - datetime.fromisoformat(given[-1].at)).total_seconds()


def withdraw(session: Session, asked: Asked) -> Mapping[str, Any]:
    """Take the answer to a section back, and all that stood there before; the section is open again."""
    section = asked.named_section
    standing = tuple(
        step.entry
        for step in session.journal.said.standing
        if isinstance(step, GivenAnswer) and step.key == section.key
    )
    # Nothing stands where it is sent a second time.
    if standing and session.journal.step_of(asked.entry) is None:
        session.journal.add(Withdrawal(at=now(), withdrawn=standing, entry=asked.entry))
    return {"section": _sections_json(session, [section])[0]}


def undo(session: Session, asked: Asked) -> Mapping[str, Any]:
    """Take one step back, with all that was answered in the same act, so that what stood before counts again."""
    undone = asked.entry_of("undone")
    step = session.journal.step_of(undone)
    if step is None or (isinstance(step, Withdrawal) and step.is_undo):
        refuse(404, f"undone is {undone!r}, which is no step that can be taken back")
    batch = step.batch if isinstance(step, GivenAnswer) else ""
    together = (each for each in session.journal.said.answers if each.batch == batch) if batch else ()
    withdrawal = Withdrawal(
        at=now(), withdrawn=tuple(each.entry for each in together) or (undone,), is_undo=True, entry=asked.entry
    )
    return {"sections": _sections_json(session, _touched(session, _kept(session, withdrawal)))}


def history(session: Session, asked: Asked) -> Mapping[str, Any]:
    """The steps from number `since` on, for a page that knows those before, and the sections that they touch.

    Where `list` is another one than the version of the sections that the page has, it asks for these again.
    """
    session.refresh()
    since = asked.number("since", 0.0)
    steps = session.journal.said.steps[max(0, int(since)) :]
    # A later answer to the same section comes with it.
    touched = {section.key: section for step in steps for section in _touched(session, step)}
    return {
        "num": len(session.journal.said.steps),
        "list": session.list_version,
        "steps": [_step_json(step) for step in steps],
        "sections": _sections_json(session, touched.values()),
    }


def _touched(session: Session, step: Step) -> list[WorkSection]:
    """The sections under review whose answer a step gives or takes back, and those that it may open."""
    if isinstance(step, Withdrawal):
        before = [earlier for entry in step.withdrawn if (earlier := session.journal.step_of(entry)) is not None]
        touched = {section.key: section for earlier in before for section in _touched(session, earlier)}
        return list(touched.values())
    found = session.worklist.by_key.get(step.key) if isinstance(step, GivenAnswer) else None
    if found is not None and found.is_blind:
        return session.worklist.by_slide[found.slide_id]
    return [] if found is None else [found]


def _step_json(step: Step) -> dict[str, Any]:
    about = {"entry": step.entry, "at": step.at}
    if isinstance(step, Withdrawal):
        return {**about, "kind": "undo" if step.is_undo else "withdrawal", "withdrawn": step.withdrawn}
    if isinstance(step, OutlineChange):
        return {**about, "kind": "outlines", "slide_id": step.slide_id}
    return {**about, "kind": "answer", "id": step.key, "answer": step.answer, "batch": step.batch}


def _readable(session: Session, slide_id: str) -> SlideFacts:
    """The facts of a slide that can be opened.

    Raises:
        AnnotationError: it cannot, so nothing can be placed on it.
    """
    facts = session.tiles.facts(slide_id)
    if facts.error is not None:
        raise AnnotationError(facts.error)
    return facts
