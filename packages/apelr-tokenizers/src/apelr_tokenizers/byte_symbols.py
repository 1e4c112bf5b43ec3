"""The characters by which byte-level BPE writes the 256 byte values (GPT-2's table)."""

from functools import cache


@cache
def symbol_of_byte() -> tuple[str, ...]:
    """Return the character of each byte value: printable Latin-1 as itself, the rest from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    replacements = iter(range(0x100, 0x200))
    return tuple(chr(value if value in printable else next(replacements)) for value in range(256))


@cache
def byte_of_symbol() -> dict[str, int]:
    """Return the byte value of each character of the table."""
    return {symbol: value for value, symbol in enumerate(symbol_of_byte())}


def symbols_to_bytes(token: str) -> bytes | None:
    """Return the bytes that `token` writes, or None when it holds a character outside the table."""
    table = byte_of_symbol()
    try:
        return bytes([table[symbol] for symbol in token])
    except KeyError:
        return None
