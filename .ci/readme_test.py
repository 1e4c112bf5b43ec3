"""README.md names every config, knob, flag, source and output file, as the code has them; so does docs/scaling.md."""

import readme_tables
import scaling_tables


def test_reference_tables_are_as_the_code_makes_them() -> None:
    page = readme_tables.README.read_text(encoding="utf-8")
    assert readme_tables.filled(page) == page, "run: python .ci/readme_tables.py"


def test_tables_of_scaling_are_as_the_models_make_them() -> None:
    page = scaling_tables.PAGE.read_text(encoding="utf-8")
    assert scaling_tables.filled(page) == page, "run: python .ci/scaling_tables.py"


def test_every_field_has_a_sentence_and_every_flag_a_help_text() -> None:
    for name in ("knobs", "flags"):
        rows = readme_tables.tables()[name].splitlines()[2:]
        assert len(rows) > 10
        assert all(row.rsplit(" | ", 1)[1].strip(" |") for row in rows)
