"""A failure file says which slide failed, where, when and why."""

from datetime import datetime
from pathlib import Path

from bccdist.failures import read_reason, write_failure
from bccdist.files import read_json


def test_a_failure_is_written_and_its_reason_read(tmp_path: Path) -> None:
    path = tmp_path / "failures" / "infer" / "a.json"
    assert read_reason(path) is None
    write_failure(path, stage="infer", slide_id="a", reason="cannot be opened", error="SlideError")
    assert read_reason(path) == "cannot be opened"
    facts = read_json(path)
    assert (facts["slide_id"], facts["stage"], facts["error"]) == ("a", "infer", "SlideError")
    assert datetime.fromisoformat(facts["time"]).tzinfo is not None
