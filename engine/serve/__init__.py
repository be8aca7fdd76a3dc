"""Ray Serve: from an artifact to a running service. `engine.serve:build_app` is what serve_config.yaml names."""

from engine.serve.app import ServeArgs, build_app, deploy, running_service, serve_forever

__all__ = ["ServeArgs", "build_app", "deploy", "running_service", "serve_forever"]
