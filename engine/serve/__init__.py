"""Serves an artifact over HTTP with Ray Serve. serve_config.yaml imports `engine.serve:build_app`."""

from engine.serve.app import ServeArgs, build_app
from engine.serve.cluster import ENVIRONMENT
from engine.serve.service import deploy, running_service, serve_forever

__all__ = ["ENVIRONMENT", "ServeArgs", "build_app", "deploy", "running_service", "serve_forever"]
