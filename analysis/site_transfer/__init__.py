"""Whether a model holds on a cohort's slides, what would mend it, and which sections to label next."""
