"""How each content model computes a vector for every track."""
