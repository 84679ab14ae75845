"""Settings from TOML files."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from converters.settings import load_toml, read_settings, read_value
from tflnest.errors import FormatError, UsageError


@dataclass(frozen=True)
class Kinds:
    flag: bool = False
    count: int = 1
    share: float = 0.5
    name: str = ""
    limit: int | None = None


def test_values_keep_their_types() -> None:
    table = {"flag": True, "count": 3, "share": 1, "name": "a", "limit": 7}
    settings = read_settings(Kinds, table, "kinds")
    assert settings == Kinds(True, 3, 1.0, "a", 7)
    assert isinstance(settings.share, float)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"flag": 1}, "flag of kinds is 1, true or false was expected"),
        ({"count": True}, "count of kinds is True, a whole number was expected"),
        ({"count": 1.5}, "count of kinds is 1.5, a whole number was expected"),
        ({"share": "much"}, "share of kinds is 'much', a number was expected"),
        ({"limit": "none"}, "limit of kinds is 'none', a whole number was expected"),
        ({"cuont": 1}, "kinds has an unknown key 'cuont'"),
        ([], "kinds is .*, a table was expected"),
    ],
)
def test_wrong_settings_are_named(table: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_settings(Kinds, table, "kinds")


def test_the_key_that_was_meant_is_in_the_hint() -> None:
    with pytest.raises(UsageError) as caught:
        read_settings(Kinds, {"cuont": 1}, "kinds")
    assert caught.value.hint is not None and caught.value.hint.startswith("did you mean count? ")


def test_a_single_value_is_checked_too() -> None:
    assert read_value(2, float, "rate") == 2.0
    with pytest.raises(UsageError, match="rate is \\[\\], a number was expected"):
        read_value([], float, "rate")


def test_a_file_that_is_no_toml_is_named(tmp_path) -> None:
    path = tmp_path / "job.toml"
    path.write_text("epochs = = 3")
    with pytest.raises(UsageError, match=r"job\.toml is no TOML file"):
        load_toml(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"job\.toml is no TOML file"):
        load_toml(path)
    with pytest.raises(FormatError, match="no such file"):
        load_toml(tmp_path / "none.toml")
