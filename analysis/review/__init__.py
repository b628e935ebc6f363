"""The review viewer: pathologists see slides with predictions, label sections, and correct regions (section 3.2)."""
