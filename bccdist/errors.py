"""Errors whose message is made for the user: what, which, got against expected, what to do."""

from collections.abc import Sequence


def first_of(names: Sequence[str], most: int) -> str:
    """Names as a message has them: all, or the first ones and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class BccdistError(Exception):
    """An error that the user can act on; launchers print its message without a traceback."""


class ManifestError(BccdistError, ValueError):
    """A manifest has faults; the message lists all of them."""


class ConfigurationError(BccdistError, ValueError):
    """A configuration is invalid, or differs from the one that made the files at hand."""


class SlideError(BccdistError, OSError):
    """A slide cannot be opened, read or placed on the um/px scale."""


class RemoteError(BccdistError, OSError):
    """A file on a server or object storage cannot be read, or is another one by now.

    It is no `SlideError`: those of a damaged place cost that place, this one costs the slide.
    """


class RemoteFileMissingError(RemoteError, FileNotFoundError):
    """Nothing lies at an address."""


class AnnotationError(BccdistError, ValueError):
    """An annotation cannot be read or does not fit its slide."""


class ShardError(BccdistError, OSError):
    """A shard set is missing, unfinished or damaged."""


class CheckpointError(BccdistError, OSError):
    """A checkpoint is missing, damaged or belongs to another network."""


class NotFiniteError(BccdistError, ArithmeticError):
    """A weight, score or probability is infinite or no number; the message names the layer, and the slide if any."""


class EventLogError(BccdistError, ValueError):
    """A file of events is damaged where no process can have been killed."""


class DistributedError(BccdistError, RuntimeError):
    """Ranks cannot be resolved from the environment, or disagree."""


class HeatmapError(BccdistError, OSError):
    """A heatmap is missing, unfinished or damaged."""


class LedgerError(BccdistError, ValueError):
    """A section ledger is missing, unfinished or contradicts itself."""


class NothingToShowError(LedgerError):
    """A table or picture has nothing to show: labels, a part or a setting that it stands on is not there; no fault."""


class ModelError(BccdistError, OSError):
    """A model file is missing, damaged, of another version, or does not fit what it is used for."""


class ClusterError(BccdistError, RuntimeError):
    """Slurm does not answer, or does not do what it was asked for; the message holds what it said."""


class StageFailedError(BccdistError, RuntimeError):
    """A stage went through, but some of its slides failed; the message names them and their reasons."""
