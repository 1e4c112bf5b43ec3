import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_cli.benchmark_timing import CLOCKS, Figure, Times, figure_of, time_in_turn


class Clock:
    """A clock that only the works move on; it keeps the order in which they are called."""

    def __init__(self):
        self.now = 0.0
        self.called = []

    def __call__(self):
        return self.now

    def work(self, name, *seconds):
        """A work that takes the given seconds, call by call, and from then on the last of them."""
        left = list(seconds)

        def run():
            self.called.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_works_run_in_turn_and_every_other_round_backwards():
    clock = Clock()
    time_in_turn({name: clock.work(name, 1.0) for name in "abc"}, rounds=3, clock=clock)
    assert "".join(clock.called) == "abc" + "abc" + "cba" + "abc"


def test_the_first_call_is_not_counted():
    clock = Clock()
    found = time_in_turn({"a": clock.work("a", 100.0, 1.0, 2.0, 3.0)}, rounds=3, clock=clock)
    assert found.seconds == {"a": (1.0, 2.0, 3.0)}


def test_a_fast_work_is_called_several_times_and_its_time_is_the_mean():
    clock = Clock()
    works = {"fast": clock.work("fast", 0.5, 0.25), "slow": clock.work("slow", 3.0)}
    found = time_in_turn(works, rounds=2, clock=clock, least_seconds=1.0)
    assert clock.called.count("fast") == 2 + 2 * 4
    assert clock.called.count("slow") == 1 + 2
    assert found.seconds == {"fast": (0.25, 0.25), "slow": (3.0, 3.0)}


def test_how_often_a_work_is_called_has_a_bound():
    clock = Clock()
    time_in_turn({"a": clock.work("a", 0.0)}, rounds=1, clock=clock, least_seconds=1.0, most_calls=7)
    assert len(clock.called) == 2 + 7


def test_a_round_is_needed():
    with pytest.raises(ValueError, match="rounds must be >= 1, got 0"):
        time_in_turn({}, rounds=0)


def test_both_clocks_run():
    assert set(CLOCKS) == {"wall", "processor"}
    for clock in CLOCKS.values():
        assert clock() <= clock()


def test_a_figure_is_the_median_with_quartiles():
    assert figure_of([3.0]) == Figure(3.0, 3.0, 3.0)
    assert figure_of([5.0, 1.0, 4.0, 2.0, 3.0]) == Figure(3.0, 2.0, 4.0)


def test_ratios_are_taken_within_a_round():
    found = Times({"a": (1.0, 20.0, 300.0), "b": (2.0, 10.0, 100.0)})
    assert found.ratio("a", "b").median == 2.0  # the ratio of the medians is the same only by chance
    assert found.ratio("a", "b") == figure_of([0.5, 2.0, 3.0])
    assert found.scaled("a", "b", 10) == figure_of([5.0, 20.0, 30.0])
    assert found.each("a") == figure_of([1.0, 20.0, 300.0])
    assert found.rate("a", 60) == figure_of([60.0, 3.0, 0.2])


def test_a_share_is_of_the_best_limit_of_the_same_round():
    found = Times({"work": (2.0, 2.0), "one": (1.0, 4.0), "two": (4.0, 1.0)})
    limits = {"one": 10, "two": 10}
    assert found.best_rate(limits) == figure_of([10.0, 10.0])
    assert found.share_of_rate("work", 10, limits) == figure_of([0.5, 0.5])
    assert found.share_of_rate("one", 10, limits) == figure_of([1.0, 0.25])


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9))
def test_quartiles_enclose_the_median(values):
    median, lower, upper = figure_of(values)
    assert min(values) <= lower <= median <= upper <= max(values)
