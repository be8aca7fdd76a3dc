"""Segue: trains, evaluates and serves a two-stage music recommender.

    from engine import open_model
    open_model("artifact").recommend(["spotify:track:…"], title="road trip", k=10)

Importing this package imports nothing else: what it exports is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.answer.recommender import Recommender, open_model

__all__ = ["Recommender", "open_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from engine.answer import recommender

        return getattr(recommender, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
