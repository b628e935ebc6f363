"""The page on which somebody goes through an audit of annotations: what stands, and what is fixed."""
