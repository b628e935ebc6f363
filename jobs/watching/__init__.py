"""How far a study is and what its jobs used."""
