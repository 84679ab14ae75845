from __future__ import annotations

import pytest

from firmware_sim.schedule import Switch, check_levels, level_at, parse_schedule
from tflnest.errors import UsageError


def test_a_schedule():
    schedule = parse_schedule("4@0, 8@10 ,4@20")
    assert schedule == (Switch(4, 0), Switch(8, 10), Switch(4, 20))
    assert ",".join(map(str, schedule)) == "4@0,8@10,4@20"
    assert [level_at(schedule, inference) for inference in (0, 9, 10, 19, 20, 999)] == [4, 4, 8, 8, 4, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' in the schedule"),
        ("4", "'4' in the schedule"),
        ("4@0,", "'' in the schedule"),
        ("x@0", "'x@0' in the schedule"),
        ("4@-1", "'4@-1' in the schedule"),
        ("4@5", "starts at inference 5, not at 0"),
        ("4@0,8@10,4@10", "4@10 does not come after 8@10"),
        ("4@0,8@10,4@3", "4@3 does not come after 8@10"),
    ],
)
def test_a_bad_schedule(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_schedule(text)
    assert "4@0,8@10,4@20" in (caught.value.hint or "")


def test_levels_are_checked():
    check_levels(parse_schedule("4@0"), (4, 8))
    with pytest.raises(UsageError, match="no level 6") as caught:
        check_levels(parse_schedule("4@0,6@1"), (4, 8))
    assert caught.value.hint == "levels: 4, 8"
