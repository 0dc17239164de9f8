"""`python -m farm`, and the `farm` command."""

from farm.interrupts import to_the_end


def command() -> None:
    """Raises SystemExit with the exit code."""
    from farm.cli import child  # a signal may come while this is imported
    from farm.cli.main import main

    main(child.run)


def main() -> None:
    to_the_end(command)


if __name__ == "__main__":
    main()
