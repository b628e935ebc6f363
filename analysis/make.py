"""Every table, figure and file of the analysis by its name: `python analysis/make.py NAME STUDY`."""

import errno
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from analysis.specs import SPECS, Spec
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table
from bccdist.command import path_of, run_command
from bccdist.errors import BccdistError, ConfigurationError, NothingToShowError
from bccdist.parts import Part
from bccdist.study import refuse_address


def make(words: Sequence[str], *, command: str = "") -> None:
    """Make what the first word names, with the other words as its options, and print it.

    Args:
        words: of the command line.
        command: what --help calls it; default is `make.py NAME`.
    """
    if not words or words[0] in {"-h", "--help"}:
        print(_help())
        return
    name = words[0]
    if name not in SPECS:
        sys.exit(f"error: unknown name {name!r}; known names: {', '.join(SPECS)}")
    into, rest = _taken(words[1:], "--into")
    function = SPECS[name].load()
    is_shown = Evidence in get_type_hints(function).values()
    if into is not None and not is_shown:
        sys.exit(f"error: {name} has no --into: what it makes stands where its --help says")
    studies: list[Evidence] = []
    try:
        made = tyro.cli(
            function,
            prog=command or f"make.py {name}",
            args=rest,
            registry=_words_to_values(SPECS[name], None if into is None else path_of(into), studies),
            config=(tyro.conf.PositionalRequiredArgs,),
        )
    except NothingToShowError as error:
        if not studies:
            raise
        # Its advice is a command for this study.
        raise NothingToShowError(studies[-1].pasteable(str(error))) from error
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES) or into is not None or not is_shown:
            raise
        raise ConfigurationError(
            f"{str(error.filename).partition('.partial-')[0]}: cannot be written ({error.strerror}), as in a study "
            "that is read-only; --into FOLDER makes it in a folder of yours"
        ) from error
    for each in made if isinstance(made, list) else [made]:
        if each is not None:
            print(f"{each.markdown}\n{each.place}.*" if isinstance(each, Table) else each)


def _taken(words: Sequence[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of a flag that all names have, and the other words."""
    value, rest, left = None, [], iter(words)
    for word in left:
        if word == flag:
            value = next(left, None)
            if value is None:
                sys.exit(f"error: {flag} needs a folder")
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    return value, rest


def moved(name: str) -> None:
    """Run a command whose file was in this folder, after a line that says where it is now."""
    print(f"note: this command is now `python analysis/make.py {name}`", file=sys.stderr)
    run_command(lambda: make([name, *sys.argv[1:]]))


def _help() -> str:
    usage = (
        "usage: python analysis/make.py NAME STUDY [options]; NAME --help lists the options\n"
        "--into FOLDER makes tables, pictures and the report there instead of in the study, which may be read-only"
    )
    return "\n".join([usage, "", *(f"  {spec.name:16} {spec.about}" for spec in SPECS.values())])


def _words_to_values(spec: Spec, into: Path | None, studies: list[Evidence]) -> ConstructorRegistry:
    """How words of the command line become a study, which is added to `studies`, and parts of the data."""

    def study_at(path: str) -> Evidence:
        # The parser would take a ValueError for its own, and say it in a box.
        try:
            refuse_address(Path(path))
        except ConfigurationError as error:
            raise BccdistError(str(error)) from None
        study = Evidence(Path(path), shown_in=into)
        if spec.of_study_alone and study.is_cohort:
            raise BccdistError(
                f"{path} is a cohort, a model applied to slides: {spec.name} rests on a training or on slides of "
                "Validation I + II, which a cohort has not; give the study that the model was trained in"
            )
        studies.append(study)
        return study

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def _study(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type is not Evidence:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="STUDY",
            instance_from_str=lambda words: study_at(words[0]),
            is_instance=lambda value: isinstance(value, Evidence),
            str_from_instance=lambda value: [str(value.root)],
        )

    @registry.primitive_rule
    def _part(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type is not Part:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="|".join(shlex.quote(part.value) for part in Part),
            instance_from_str=lambda words: _parse_part(words[0]),
            is_instance=lambda value: isinstance(value, Part),
            str_from_instance=lambda value: [value.value],
        )

    return registry


def _parse_part(word: str) -> Part:
    try:
        return Part.parse(word)
    except ConfigurationError as error:
        # The parser would take a ValueError for its own, and say less.
        raise BccdistError(str(error)) from None


if __name__ == "__main__":
    run_command(lambda: make(sys.argv[1:]))
