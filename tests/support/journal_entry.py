"""One entry of a study's journal of jobs."""

from bccdist.stages.table import SHARDS
from jobs.slurm.journal import JournalEntry

ENTRY = JournalEntry(
    stage=SHARDS,
    job_id="7",
    cluster="slurm",
    num_elements=3,
    logs="logs/shards",
    after=("5", "6"),
    code="0123456789ab",
    command=("jobs/launch_shards.py", "--study", "s"),
    folder="here",
    submitted_at="2026-01-01T00:00:00+00:00",
)
