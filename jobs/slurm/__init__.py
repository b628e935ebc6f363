"""Submission: sites, Slurm's commands, the archive of code, and the task that runs in a job."""
