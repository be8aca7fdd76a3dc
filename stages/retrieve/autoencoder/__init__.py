"""Autoencoders over interactions: regular, variational, or hybrid with content."""

from stages.retrieve.autoencoder.model import Autoencoder, AutoencoderRecipe

__all__ = ["Autoencoder", "AutoencoderRecipe"]
