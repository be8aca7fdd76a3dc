"""Content embeddings."""
