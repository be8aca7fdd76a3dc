"""Settings: small, frozen models in which every key is known, and one that was renamed is refused with its new name.

Input: keys and values from a YAML file, an artifact or Python. Output: settings, or an error of one line. Knows no particular
setting: each model lists its own renamed keys in `old_names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from features.arrays import MOST_ROWS
from features.domain import SegueError
from features.validation import in_one_line

RENAMED_IN: Final = "0.3"
"""The version since which the new names are the only ones."""
OLD_NAMES_ALLOWED: Final = {"old names": "allowed"}
"""Context of a validation that translates renamed keys, as an artifact of an earlier version needs it."""
SOURCE_NAME: Final = r"^[a-z0-9_-]{1,64}$"
SourceName = Annotated[str, StringConstraints(pattern=SOURCE_NAME)]
"""Of a source: it names a folder as well."""


class SettingsError(SegueError, ValueError):
    """A wrong key or value, given from Python."""


class Settings(BaseModel):
    """The base of every recipe and of the config's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    old_names: ClassVar[Mapping[str, str]] = {}
    """Keys that were renamed, with their new names."""

    def __init__(self, /, **values: Any) -> None:
        """SettingsError, in one line, for a key that is not known or a value that makes no sense."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(f"{type(self).__name__}: {in_one_line(error, type(self))}") from error

    # Part of a larger model it is validated with that model, whose error names the whole path to a wrong key.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _renamed_keys(cls, values: Any, info: ValidationInfo) -> Any:
        if not isinstance(values, Mapping) or not cls.old_names.keys() & values.keys():
            return values
        if info.context == OLD_NAMES_ALLOWED:
            return {cls.old_names.get(key, key): value for key, value in values.items()}
        raise ValidationError.from_exception_data(
            cls.__name__, [_renamed(key, cls.old_names[key]) for key in values if key in cls.old_names]
        )

    @model_validator(mode="after")
    def _whole_numbers_are_of_this_world(self) -> Self:
        for name, value in self:
            if isinstance(value, int) and abs(value) > MOST_ROWS:
                raise ValueError(f"expected {name} to be at most {MOST_ROWS:,}, found {value:,}")
        return self

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """What differs from the defaults."""
        fields = type(self).model_fields
        return [(name, getattr(self, name)) for name in fields if getattr(self, name) != fields[name].default]


def _renamed(old: str, new: str) -> InitErrorDetails:
    message = f"expected {new}, the name since {RENAMED_IN}, found {old}"
    return InitErrorDetails(type=PydanticCustomError("renamed", "{message}", {"message": message}), loc=(old,), input=old)
