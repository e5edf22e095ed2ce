"""The search loop: proposals out to workers, records in, until the study is complete."""
