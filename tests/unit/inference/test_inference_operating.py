"""The rule of the operating point."""

import pytest

from inference.training.operating import threshold_of


def test_half_a_false_alarm_a_scan_lies_between_the_last_let_through_and_the_first_refused() -> None:
    assert threshold_of([[5.0, 1.0], [3.0, 2.0], [0.0], [-1.0]]) == 2.5  # two of four scans' places pass
    assert threshold_of([[4.0, 1.0], [2.0], [0.0]]) == 3.0  # 1.5 are allowed: one passes


def test_where_none_is_allowed_none_passes() -> None:
    assert threshold_of([[4.0, 1.0]]) > 4.0


def test_without_scans_there_is_no_operating_point() -> None:
    with pytest.raises(ValueError, match="takes scans"):
        threshold_of([])
