"""The contracts say what they found, as a test file's own asserts do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.contracts")
