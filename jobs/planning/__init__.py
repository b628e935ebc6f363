"""What a large study will take, from a small one."""
