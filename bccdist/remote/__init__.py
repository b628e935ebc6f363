"""Files that lie on a server or on object storage: read by ranges of bytes, as far as they are needed."""
