"""What the places of slides say of them, by a pattern that people write: `{patient}/{slide}_{stain}.svs`.

A name in braces stands for a part of a folder's or file's name; the same name twice has to stand for the same. `*`
stands for anything within a name, `**` for any folders. Case does not matter outside braces.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bccdist.errors import ManifestError, first_of
from bccdist.slides.finder import slide_id_of

COLUMN_OF = {
    "slide": "slide_id",
    "patient": "patient_id",
    "scanner": "scanner",
    "part": "part",
    "label": "label",
    "mpp": "mpp",
}
"""What a name in braces fills in; any other name is looked at, and can be asked for by `only`."""
_TOKEN = re.compile(r"\{(?P<name>[^{}]*)\}|(?P<folders>\*\*/)|(?P<any>\*)|(?P<brace>[{}])")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_NAMED = 5
_MOST_VALUES = 8


@dataclass(frozen=True, kw_only=True)
class PatternReading:
    """What a pattern says of some slides."""

    paths: Mapping[str, Path]
    """The slides that it describes and that were asked for, by slide_id."""
    values: Mapping[str, Mapping[str, str]]
    """What it says of each of these, by column of the manifest's tables."""
    names: Mapping[str, Counter[str]]
    """How many described slides have each value, by the name in braces."""
    unlike: Sequence[str]
    """Slides that it does not describe, by their path below the folder."""
    not_asked: Sequence[str]
    """Slides that it describes, and that `only` leaves out."""

    def told(self) -> list[str]:
        """A sentence for each name in braces, and for what is left out."""
        lines = []
        for name, counts in self.names.items():
            column = COLUMN_OF.get(name, "not kept")
            common = [f"{value} ({num})" for value, num in counts.most_common(_MOST_VALUES)]
            more = f" and {len(counts) - _MOST_VALUES} more" if len(counts) > _MOST_VALUES else ""
            lines.append(f"{{{name}}} ({column}): {len(counts)} value(s): {', '.join(common)}{more}")
        if self.not_asked:
            lines.append(
                f"{len(self.not_asked)} slide(s) are left out by --only: {first_of(self.not_asked, _MOST_NAMED)}"
            )
        if self.unlike:
            lines.append(
                f"{len(self.unlike)} slide(s) are left out, as the pattern does not describe them: "
                f"{first_of(self.unlike, _MOST_NAMED)}"
            )
        return lines


@dataclass(frozen=True)
class PathPattern:
    """A pattern for the paths of slides below a folder."""

    text: str
    names: tuple[str, ...] = field(init=False)
    """The names in braces, each once, in their order."""
    _regex: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Understand the pattern.

        Raises:
            ManifestError: a brace is open, a name is none, or nothing of it is in braces.
        """
        regex, names, end = "", list[str](), 0
        for token in _TOKEN.finditer(self.text):
            regex += re.escape(self.text[end : token.start()])
            end = token.end()
            name = token["name"]
            if token["brace"] or (name is not None and not _NAME.fullmatch(name)):
                raise ManifestError(
                    f"--pattern {self.text!r}: {token[0]!r} is no name in braces; write such as "
                    "{patient}/{slide}_{stain}.svs"
                )
            if name is None:
                regex += "(?:[^/]+/)*" if token["folders"] else "[^/]*"
            elif name in names:
                regex += f"(?P={name})"
            else:
                names.append(name)
                regex += f"(?P<{name}>[^/]+?)"
        if not names:
            raise ManifestError(
                f"--pattern {self.text!r}: nothing of it is in braces, so it would say nothing of any slide; names "
                f"that fill columns in are {', '.join(COLUMN_OF)}"
            )
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "_regex", re.compile(regex + re.escape(self.text[end:]), re.IGNORECASE))

    def read(self, folder: Path, paths: Mapping[str, Path], only: Mapping[str, str]) -> PatternReading:
        """What the pattern says of slides below a folder.

        Args:
            folder: what the pattern's paths begin at.
            paths: the slides that were found, by the ids that their paths give them.
            only: for names in braces, the value that a slide needs to be taken; case does not matter.

        Raises:
            ManifestError: no slide is described or asked for, `only` has a name that the pattern lacks, or two slides
                would have one id.
        """
        if unknown := [name for name in only if name not in self.names]:
            raise ManifestError(
                f"--only {unknown[0]}: --pattern {self.text!r} has no {{{unknown[0]}}}; it has {', '.join(self.names)}"
            )
        taken: defaultdict[str, list[Path]] = defaultdict(list)
        values: dict[str, dict[str, str]] = {}
        names: dict[str, Counter[str]] = {name: Counter() for name in self.names}
        unlike, not_asked = [], []
        for slide_id, path in paths.items():
            place = path.relative_to(folder).as_posix()
            match = self._regex.fullmatch(place)
            if match is None:
                unlike.append(place)
                continue
            said = match.groupdict()
            for name, value in said.items():
                names[name][value] += 1
            if any(said[name].casefold() != value.casefold() for name, value in only.items()):
                not_asked.append(place)
                continue
            own_id = slide_id_of(Path(said["slide"] + ".x")) if "slide" in said else slide_id
            taken[own_id].append(path)
            values[own_id] = {COLUMN_OF[name]: value for name, value in said.items() if name in COLUMN_OF}
            values[own_id].pop("slide_id", None)
        if not taken:
            raise ManifestError(self._told_none(unlike, not_asked, names))
        self._refuse_one_id(folder, taken)
        return PatternReading(
            paths={slide_id: each[0] for slide_id, each in taken.items()},
            values=values,
            names=names,
            unlike=unlike,
            not_asked=not_asked,
        )

    def _told_none(self, unlike: Sequence[str], not_asked: Sequence[str], names: Mapping[str, Counter[str]]) -> str:
        if not_asked:
            there = "; ".join(f"{name}: {', '.join(list(counts)[:_MOST_VALUES])}" for name, counts in names.items())
            return f"--pattern {self.text!r}: --only leaves no slide; there are {there}"
        found = first_of(unlike, _MOST_NAMED)
        return f"--pattern {self.text!r}: it describes none of the slides that were found, such as {found}"

    def _refuse_one_id(self, folder: Path, taken: Mapping[str, Sequence[Path]]) -> None:
        twice = {slide_id: paths for slide_id, paths in taken.items() if len(paths) > 1}
        if twice:
            listed = "".join(
                f"\n  - {slide_id}: {first_of([str(path.relative_to(folder)) for path in paths], _MOST_NAMED)}"
                for slide_id, paths in list(twice.items())[:_MOST_NAMED]
            )
            raise ManifestError(
                f"--pattern {self.text!r}: {len(twice)} slide_id(s) would be those of several slides; put more of the "
                f"name into {{slide}}, leave it out, or choose by --only:{listed}"
            )
