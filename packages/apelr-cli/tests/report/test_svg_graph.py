import re

from apelr_cli.report.svg_graph import transition_graph, walk_order

RING = [[0.8, 0.2, 0.0], [0.0, 0.9, 0.1], [0.05, 0.04, 0.91]]


def test_the_walk_follows_the_likeliest_moves() -> None:
    assert walk_order([0, 1, 2], RING, 1) == [1, 2, 0]
    assert walk_order([0, 2], RING, 2) == [2, 0]


def test_the_likeliest_moves_have_arrows_with_their_share_of_what_leaves() -> None:
    made = transition_graph([0, 1, 2], RING, {0: 0.5, 1: 0.2, 2: 0.3}, {1: "turn<"})
    moves = re.findall(r'data-row="(\d)" data-column="(\d)"', made)
    assert moves == [("0", "1"), ("1", "2"), ("2", "0")]
    assert "from state 2 to state 0: 56% of the moves that leave it" in made
    assert ">turn&lt;</text>" in made


def test_a_single_state_and_one_that_never_leaves_are_drawn() -> None:
    made = transition_graph([0], [[1.0]], {}, {})
    assert 'class="move"' not in made
    assert "state 0: stays with probability 1.000" in made
