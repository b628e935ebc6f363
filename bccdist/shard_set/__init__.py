"""What training reads: the index of a finished shard set and the pools of Table 2 (paper, section 2.3)."""
