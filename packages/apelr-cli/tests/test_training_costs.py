"""Bytes that stay and bytes that are sent, worked out by hand."""

import pytest

from apelr_cli.training_costs import gathered_bytes, ring_bytes, sharded_ring_bytes, state_bytes


def test_a_parameter_takes_sixteen_bytes() -> None:
    assert state_bytes(1_000) == 16_000


@pytest.mark.parametrize(("processes", "sent"), [(1, 0), (2, 4_000), (4, 6_000)])
def test_a_ring_sends_all_but_the_own_share_twice(processes: int, sent: int) -> None:
    assert ring_bytes(1_000, processes) == sent


@pytest.mark.parametrize(("processes", "sent"), [(1, 0), (2, 2 * (3 * 1_000 + 2 * 10)), (4, 3 * (3 * 1_000 + 2 * 10))])
def test_shards_gather_layers_twice_and_the_rest_once(processes: int, sent: int) -> None:
    assert sharded_ring_bytes(10, 1_000, processes) == sent


def test_two_layers_are_whole_at_a_time() -> None:
    assert gathered_bytes(10, 100) == 8 * 210
