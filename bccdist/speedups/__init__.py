"""What faster ways of inference change, measured against the exact one."""
