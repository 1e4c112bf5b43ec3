import pytest

from apelr_tokenizers.accounting import account_by_offsets, account_by_sizes

UNK = 3


def test_ranges_that_share_a_character_give_it_to_the_first() -> None:
    assert account_by_offsets("…a", [5, 5, 5, 6], [(0, 1)] * 3 + [(1, 2)], UNK) == ([5, 5, 5, 6], [3, 0, 0, 1], 0)


def test_dropped_characters_go_to_the_next_id_and_at_the_end_to_the_last() -> None:
    assert account_by_offsets("é a é", [5], [(2, 3)], UNK).byte_counts == [7]
    assert account_by_offsets("é ab", [5, 6], [(2, 3), (3, 4)], UNK).byte_counts == [4, 1]


def test_ranges_out_of_order_or_beyond_the_text_still_sum_to_it() -> None:
    assert account_by_offsets("é12", [5, 6, 7], [(1, 3), (0, 1), (2, 9)], UNK).byte_counts == [4, 0, 0]


def test_unknown_ranges_are_counted_once() -> None:
    offsets = [(0, 2), (0, 2), (2, 3), (3, 4)]
    assert account_by_offsets("e\u0302ab", [UNK, UNK, 5, UNK], offsets, UNK).unknown == 3


def test_no_ids_for_no_text_only() -> None:
    assert account_by_offsets("", [], [], UNK) == ([], [], 0)
    with pytest.raises(AssertionError, match="gives at least one id"):
        account_by_offsets("a", [], [], UNK)


@pytest.mark.parametrize(
    ("text", "ids", "expected"),
    [
        ("ab", [4, UNK], ([1, 1], 1)),
        ("é", [UNK, UNK], ([1, 1], 1)),
        ("é", [4, UNK], ([1, 1], 1)),
        ("éé", [UNK] * 4, ([1] * 4, 2)),
        ("😀z", [UNK, 4, 4, UNK, UNK], ([1] * 5, 2)),
    ],
)
def test_unknown_bytes(text: str, ids: list[int], expected: tuple[list[int], int]) -> None:
    assert account_by_sizes(text, ids, [0, 0, 0, 1, 1], UNK, byte_level=True)[1:] == expected


def test_unknown_characters_take_their_own_size() -> None:
    text, ids = "aé日😀z", [4, UNK, UNK, UNK, UNK]
    assert account_by_sizes(text, ids, [0, 0, 0, 1, 1], UNK, byte_level=False)[1:] == ([1, 2, 3, 4, 1], 4)
