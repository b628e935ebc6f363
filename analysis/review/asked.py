"""What a request of the page asks for: taken apart, and refused where it is none."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast, get_args

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from analysis.review.answers import Answer, GivenAs, new_entry
from analysis.review.worklist import Worklist, WorkSection
from bccdist.configuration import Psi, Setting, outputs_of
from bccdist.sections.choices import Choice
from bccdist.slides.geometry import Box

LONGEST_COMMENT = 4000
"""Characters."""
LONGEST_SECONDS = 7 * 24 * 3600.0
LONGEST_ENTRY = 100
LONGEST_ERROR = 1000
LONGEST_BODY_S = 60.0
"""So long may a body take to arrive."""
_ANSWER_FIELDS = {"entry", "id", "answer", "comment", "seconds", "viewed", "since_last_s", "given_as", "batch"}
_BY_HAND = (GivenAs.ANSWER, GivenAs.REST)
_VIEWED_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "setting": str,
    "psi": str,
    "t_p": (int, float),
    "heatmap": bool,
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request. What it names and the worklist does not know is refused when it is read."""

    request: Request
    worklist: Worklist
    content: Mapping[str, Any]
    """The JSON object that was sent; empty where nothing was."""

    @property
    def slide_id(self) -> str:
        """A slide under review."""
        slide_id: str = self.request.path_params["slide_id"]
        if slide_id not in self.worklist.by_slide:
            refuse(404, f"no slide {slide_id!r} under review")
        return slide_id

    @property
    def setting(self) -> str:
        """A setting that was selected."""
        setting: str = self.request.path_params["setting"]
        if setting not in self.worklist.choices:
            refuse(404, f"no setting {setting!r}; selected were {', '.join(self.worklist.choices)}")
        return setting

    @property
    def psi(self) -> Psi:
        """An output of the network."""
        psi = self.request.path_params["psi"]
        if psi not in get_args(Psi):
            refuse(404, f"no output {psi!r}")
        return cast("Psi", psi)

    def psi_of(self, choice: Choice) -> Psi:
        """The output of a chosen setting that the address names, or else the setting's own."""
        psi = self.request.query_params.get("psi", choice.psi)
        outputs = outputs_of(cast("Setting", choice.setting))
        if psi not in outputs:
            refuse(404, f"no output {psi!r} of {choice.setting}; it has {', '.join(outputs)}")
        return psi

    def number(self, name: str, default: float) -> float:
        """A number of the address; `default` where it is not there."""
        text = self.request.query_params.get(name)
        if text is None:
            return default
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or abs(number) > 1e9:
            refuse(400, f"{name} is {text!r}, expected a number")
        return number

    @property
    def box_level0_px(self) -> Box | None:
        """A box of the address, widened to whole level-0 px; None without one."""
        names = ("x", "y", "width", "height")
        given = [name for name in names if name in self.request.query_params]
        if not given:
            return None
        if len(given) < len(names):
            refuse(400, f"a box needs {', '.join(names)}; got {', '.join(given)}")
        x, y, width, height = (self.number(name, 0.0) for name in names)
        if width <= 0 or height <= 0:
            refuse(400, f"the box is {width} x {height}, expected some area")
        left, top = math.floor(x), math.floor(y)
        return Box(left, top, math.ceil(x + width) - left, math.ceil(y + height) - top)

    @property
    def entry(self) -> str:
        """The name that the page gave to the step that it sends; a new one where it gave none."""
        return self.entry_of("entry") if "entry" in self.content else new_entry()

    def entry_of(self, name: str) -> str:
        """The content's field that names a step."""
        entry = self.content.get(name)
        if not isinstance(entry, str) or not 0 < len(entry) <= LONGEST_ENTRY or not entry.isascii():
            refuse(400, f"{name} is {entry!r}, expected 1 to {LONGEST_ENTRY} ASCII characters")
        return entry

    @property
    def named_section(self) -> WorkSection:
        """The section whose id the content gives."""
        key = self.content.get("id")
        # A list or an object is no key of a dictionary at all.
        if not isinstance(key, str) or key not in self.worklist.by_key:
            refuse(404, _no_section(key))
        return self.worklist.by_key[key]

    @property
    def answered_section(self) -> WorkSection:
        """The section that the content answers; refused where any of it is wrong."""
        section = self.named_section
        fault = answer_fault(self.content)
        if fault:
            refuse(400, fault)
        return section


def _no_section(key: Any) -> str:
    return f"id is {key!r}, which is no section under review"


def answer_fault(content: Mapping[str, Any]) -> str:
    """What is wrong with an answer as the page sent it, beside its section; nothing where it is right."""
    seconds, viewed, comment = content.get("seconds", 0.0), content.get("viewed") or {}, content.get("comment", "")
    since_s, given_as = content.get("since_last_s"), content.get("given_as", GivenAs.ANSWER)
    batch = content.get("batch", "")
    faults = {
        f"unknown fields {sorted(content.keys() - _ANSWER_FIELDS)}": bool(content.keys() - _ANSWER_FIELDS),
        f"answer is {content.get('answer')!r}, expected one of {', '.join(Answer)}": content.get("answer")
        not in list(Answer),
        f"comment is no text of at most {LONGEST_COMMENT} characters": not isinstance(comment, str)
        or len(comment) > LONGEST_COMMENT,
        f"seconds is {seconds!r}, expected 0 to {LONGEST_SECONDS}": not _is_number(seconds)
        or not 0 <= seconds <= LONGEST_SECONDS,
        f"viewed is {viewed!r}, expected {', '.join(_VIEWED_TYPES)}": not _is_viewed(viewed),
        f"since_last_s is {since_s!r}, expected a number from 0, or null": since_s is not None
        and (not _is_number(since_s) or since_s < 0),
        f"given_as is {given_as!r}, expected {' or '.join(_BY_HAND)}": given_as not in _BY_HAND,
        f"batch is {batch!r}, expected at most {LONGEST_ENTRY} ASCII characters": not isinstance(batch, str)
        or len(batch) > LONGEST_ENTRY
        or not batch.isascii(),
    }
    return "; ".join(text for text, is_fault in faults.items() if is_fault)


def _is_number(value: Any) -> bool:
    # Whole numbers can be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_viewed(viewed: Any) -> bool:
    return isinstance(viewed, dict) and all(
        name in _VIEWED_TYPES and (value is None or isinstance(value, _VIEWED_TYPES[name])) and len(str(value)) < 100
        for name, value in viewed.items()
    )


async def sent_object(request: Request) -> dict[str, Any]:
    """The JSON object that a request carries."""
    try:
        async with asyncio.timeout(LONGEST_BODY_S):
            body = await request.body()
    except (TimeoutError, ClientDisconnect):
        refuse(408, f"the body did not arrive within {LONGEST_BODY_S:.0f} s; send it again")
    try:
        content = json.loads(body, parse_constant=_no_constant, object_pairs_hook=_once_each)
        _refuse_nul(content)
        # What cannot be written again cannot be kept: half a character, a number beyond all floats.
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        refuse(400, f"not JSON that can be kept: {error}")
    if not isinstance(content, dict):
        refuse(400, f"expected a JSON object, got {type(content).__name__}")
    return content


def _no_constant(text: str) -> NoReturn:
    # Python reads NaN and Infinity, which JSON does not have.
    raise ValueError(f"{text} is no JSON")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; Python would take the last of two values of one key without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} is there twice; send each once")
    return found


def _refuse_nul(content: Any) -> None:
    """Refuse the character that ends a text for most programs that read what is exported."""
    if isinstance(content, str) and "\0" in content:
        raise ValueError(f"the text {content[:40]!r} holds the character NUL (U+0000); take it out")
    if isinstance(content, dict):
        content = [*content.keys(), *content.values()]
    if isinstance(content, list):
        for each in content:
            _refuse_nul(each)


def refuse(status: int, error: str) -> NoReturn:
    """Answer a request with an error.

    Raises:
        HTTPException: always.
    """
    # It may name what was sent, of whatever length.
    raise HTTPException(status, error[:LONGEST_ERROR])
