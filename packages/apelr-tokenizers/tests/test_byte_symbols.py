from tokenizers.pre_tokenizers import ByteLevel

from apelr_tokenizers.byte_symbols import symbol_of_byte, symbols_to_bytes


def test_the_table_is_the_librarys() -> None:
    assert set(symbol_of_byte()) == set(ByteLevel.alphabet())
    assert len(set(symbol_of_byte())) == 256
    cut = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str("".join(map(chr, range(0x250))))
    text = "".join(map(chr, range(0x250)))
    assert symbols_to_bytes("".join(part for part, _ in cut)) == text.encode("utf-8")


def test_symbols_outside_the_table() -> None:
    assert symbols_to_bytes("Ġa") == b" a"
    assert symbols_to_bytes("a b") is None
