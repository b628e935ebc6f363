"""How long something takes and when it ends, in words for people."""

from datetime import UTC, datetime, timedelta


def local_now() -> datetime:
    """The time of day where this process runs."""
    return datetime.now(UTC).astimezone()


def as_end(seconds: float, now: datetime) -> str:
    """When something ends that takes so long from now: `14:05`, with the date where that is another day."""
    end = now + timedelta(seconds=seconds)
    return f"{end:{'%H:%M' if end.date() == now.date() else '%Y-%m-%d %H:%M'}}"


def as_duration(seconds: float) -> str:
    """A duration in the two units that matter: `42 s`, `13 min`, `2 h 13 min`, `3 d 4 h`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
