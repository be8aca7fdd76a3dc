"""How the weights of item-item models are computed."""
