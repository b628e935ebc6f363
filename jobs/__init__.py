"""Launchers: flags to configuration to submitted jobs."""
