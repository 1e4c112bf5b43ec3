import io

from apelr_cli.terminal_text import for_terminal, quoted, visible


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_character_that_a_terminal_obeys_is_left() -> None:
    shown = visible("".join(map(chr, range(0x3000))))
    controls = {
        chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    }
    assert controls & set(shown) == {"\n", "\t"}
    assert visible("\x1b[31mred\x9b\r\u202e\x00") == r"\x1b[31mred\x9b\r\u202e\x00"


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("é ß 猫 \n\t", "שלום \u200f", "👩\u200d👧 e\u0301"):
        assert visible(text) == text


def test_only_a_terminal_is_spared_control_characters() -> None:
    assert for_terminal("\x1b", Terminal()) == "\\x1b"
    assert for_terminal("\x1b", io.StringIO()) == "\x1b"


def test_a_quoted_text_is_one_line_without_control_characters() -> None:
    assert quoted('a "b"\n\té\x1b\x7f\x9b') == '"a \\"b\\"\\n\\té\\u001b\\x7f\\x9b"'
