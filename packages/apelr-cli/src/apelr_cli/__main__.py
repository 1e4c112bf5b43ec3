"""`python -m apelr_cli` is the `apelr` command."""

from apelr_cli.main import main

if __name__ == "__main__":
    main(prog_name="apelr")
