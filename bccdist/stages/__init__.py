"""The stages of a study: what each needs, makes and runs."""
