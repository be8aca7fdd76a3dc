"""Item-item models."""
