"""How every command line ends: by its exit code, and by one line where a traceback would help nobody."""

import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

import bccdist
from bccdist.addresses import local_path, without_secrets
from bccdist.errors import BccdistError, ConfigurationError
from bccdist.log import set_up_logging
from bccdist.surroundings import advice_on, settle

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the signal's number."""
NOBODY_READS = 141
"""Exit code where the reader of a pipe is gone, as in `... | head -1`: what any other command would give."""


def run_command(
    main: Callable[[], object],
    *,
    if_interrupted: str = "interrupted; what is done stays done, and the same command goes on from there",
) -> None:
    """Run a command, and end the process where its exit code is not 0.

    An error that the user can act on is one message and exit code 1; Ctrl-C is one line and exit code 130; a reader
    that went away ends the command without a word.

    Args:
        main: reads the command line and does the work; a whole number that it returns is the exit code.
        if_interrupted: the line that is written at Ctrl-C.
    """
    settle()
    set_up_logging()
    try:
        try:
            _refuse_other_checkout()
            with _local_paths():
                code = main()
        finally:
            # Here and not at the interpreter's end, where nobody could catch that the reader is gone.
            sys.stdout.flush()
        if isinstance(code, int) and code:
            sys.exit(code)
    except BccdistError as error:
        sys.exit(without_secrets(f"error: {error}"))
    except KeyboardInterrupt:
        sys.stderr.write(f"{if_interrupted}\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # A broken pipe to a process of our own is a fault, and keeps its traceback.
        lost = [stream for stream in (sys.stdout, sys.stderr) if _nobody_reads(stream)]
        if not lost:
            raise
        for stream in lost:
            # The interpreter flushes once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(NOBODY_READS)
    except OSError as error:
        if (advice := advice_on(error)) is None:
            raise
        sys.exit(f"error: {error}; {advice}")


def _local_paths() -> ConstructorRegistry:
    """How words of any command line become paths: an address would lose a slash, and files would land anywhere."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
        if info.type is not Path:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="PATH",
            instance_from_str=lambda words: path_of(words[0]),
            is_instance=lambda value: isinstance(value, Path),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def path_of(word: str) -> Path:
    """The path of this machine that a word of a command line is.

    Raises:
        BccdistError: it is an address. No ValueError, which the parser would take for its own, and say in a box.
    """
    try:
        return local_path(word)
    except ConfigurationError as error:
        raise BccdistError(str(error)) from None


def _refuse_other_checkout() -> None:
    """Refuse to run a command of one copy of the project with the packages of another, which Python found first.

    Raises:
        ConfigurationError: it is so.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    package = Path(bccdist.__file__).resolve().parent
    if script is None:
        return
    folder = Path(script).resolve().parent.parent
    own = folder / package.name
    if folder != package.parent and (own / "__init__.py").is_file():
        raise ConfigurationError(
            f"{script} is of {folder}, but Python imports {package.name} from {package.parent}, so other code would "
            f"run: call the command of {package.parent}, or install {folder} for this Python (`{sys.executable} -m "
            f"pip install --no-deps --editable {folder}`)"
        )


def _nobody_reads(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
