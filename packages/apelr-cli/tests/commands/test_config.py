from apelr_cli.shipped import shipped_description, shipped_names, shipped_text


def test_without_a_name_every_config_is_listed_with_its_first_line(apelr):
    result = apelr("config")
    assert result.exit_code == 0
    flat = "".join(result.output.split())  # long lines are broken, also after a hyphen
    for name in shipped_names():
        assert "".join(f"{name} {shipped_description(name)}".split()) in flat


def test_a_name_prints_the_file_as_it_is(apelr):
    for name in shipped_names():
        assert apelr("config", name).output == shipped_text(name)


def test_an_unknown_name_is_one_line(apelr):
    result = apelr("config", "quickstrat")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: no shipped config is called quickstrat; did you mean quickstart?\n"
