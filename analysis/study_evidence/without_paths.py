"""Texts that leave the laboratory name no file and no folder, as these may name a patient; logs and status do.

A slide is named by its id instead, which is what its user chose for others to read (docs/manifest.md).
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bccdist.addresses import Location
from bccdist.slides.manifest import SlideRecord

_MAY_NAME_FILES = re.compile(r"[/\\]|\.[^\W\d]")
"""Most texts of a page are numbers and ids, which need no search."""
_BEGINNING = re.compile(r"""(?<![^\s"'`()\[\]{}=:;,|])(?=\S)""")
"""Where a path may begin: at the start, behind a blank, a quotation mark, a bracket or a sign between clauses."""
_OTHER_PATH = re.compile(
    r"""(?<!http:)(?<!https:)(?:~?/|\.\.?/|[A-Za-z]:[\\/]|\\\\)(?=[^\s"'`])"""
    r"""(?:(?:(?![:;]\s)[^\n/\\"`])*(?<![\s"'`:;,(])[/\\])*"""
    r"""(?:(?:[^\n:;,"'`]|\b'\b)*\.[^\W\d]\w{0,7}(?![\w.])|(?:[^\s:;,"'`()]|\b'\b)*)"""
)
"""A path of which nothing is known: its folders, which may have blanks and commas, and a file, which may have them if
it has an ending. Too much is taken rather than too little."""
_UNNAMED = "(a path)"


class WithoutPaths:
    """Takes the names of files and folders out of texts."""

    def __init__(self, root: Path, slides: Iterable[SlideRecord], manifest_folder: Path) -> None:
        """Learn the names.

        Args:
            root: of the study; what lies below it is named as seen from it.
            slides: whose files may be named.
            manifest_folder: what their paths may be relative to.
        """
        self._roots = {str(root), str(root.resolve())}
        self._known: dict[str, str] = dict.fromkeys(self._roots, "the study's folder")
        for slide in slides:
            for path in slide.annotations:
                self._learn(path, f"the annotation of {slide.slide_id}", manifest_folder)
            self._learn(slide.path, f"the file of {slide.slide_id}", manifest_folder)
        self._lengths = _lengths_by_beginning(self._known)
        self._all_have_signs = all(map(_MAY_NAME_FILES.search, self._known))

    def _learn(self, path: Location, words: str, folder: Path) -> None:
        names = [str(path), path.name]
        if isinstance(path, Path):
            names += [os.path.normpath(path), os.path.relpath(path, folder)]
        for name in names:
            self._known[name] = words
            self._known[repr(name)[1:-1]] = words

    def __call__(self, text: str) -> str:
        """The text with ids in place of paths and names of files."""
        if self._all_have_signs and not _MAY_NAME_FILES.search(text):
            return text
        kept, end = [], 0
        for beginning in _BEGINNING.finditer(text):
            start = beginning.start()
            if start < end:
                continue
            named, words = self._name_at(text, start)
            if named:
                kept += [text[end:start], words]
                end = start + len(named)
        return "".join([*kept, text[end:]])

    def _name_at(self, text: str, start: int) -> tuple[str, str]:
        """The longest name that begins here, with the words for it; empty where none does."""
        for length in self._lengths.get(text[start], ()):
            name = text[start : start + length]
            if name not in self._known or text[start + length : start + length + 1].isalnum():
                continue
            if name not in self._roots:
                return name, self._known[name]
            if re.match(r"/[^\s/]", text[start + length :]):
                return f"{name}/", ""  # the rest is seen from the study
            return name, self._known[name]
        other = _OTHER_PATH.match(text, start)
        return (other[0], _UNNAMED) if other else ("", "")


def _lengths_by_beginning(names: Mapping[str, str]) -> dict[str, list[int]]:
    """How long the names are, the longest first, by their first sign."""
    lengths: dict[str, set[int]] = {}
    for name in names:
        lengths.setdefault(name[0], set()).add(len(name))
    return {sign: sorted(found, reverse=True) for sign, found in lengths.items()}
