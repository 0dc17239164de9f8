"""`python -m farm`, and the `farm` command."""

from farm.interrupts import to_the_end


def command() -> None:
    """Raises SystemExit with the exit code."""
    from farm.cli.main import main  # a signal may come while this is imported

    main()


def main() -> None:
    to_the_end(command)


if __name__ == "__main__":
    main()
