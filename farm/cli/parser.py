"""Parsers of the command line that know what was meant: the nearest command, choice or option."""

from __future__ import annotations

import argparse
import difflib
import itertools
import re
from collections.abc import Iterable, Sequence
from pkgutil import resolve_name
from typing import Any, NoReturn

from farm.errors import nearest
from farm.terminal import logs

_CHOICE = re.compile(r"invalid choice: (['\"])(?P<word>.*)\1 \(choose from (?P<words>.*)\)", re.S)
_OPTION = re.compile(r"unrecognized arguments: (?:.*? )?--?(?P<word>\w[\w-]*)", re.S)
_VALUE = re.compile(r"argument (?P<names>\S+): expected (one|at least one) argument")


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the nearest word of those that are known."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and remember the words for the errors."""
        self._words = () if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and the message, with what was meant."""
        super().error(_meant(message, self._words, self._option_string_actions))


class HelpFormatter(argparse.HelpFormatter):
    """Wraps the texts of a help, and keeps the lines of its examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(
            one
            if one.startswith("examples:")
            else super(HelpFormatter, self)._fill_text(one, width, indent)
            for one in paragraphs
        )


class CommandParser(Parser):
    """The parser of one command, whose arguments are added when it is the one that is run: what
    adds them imports the command."""

    def __init__(self, *, adds: str = "", **settings: Any) -> None:
        super().__init__(formatter_class=HelpFormatter, **settings)
        self._adds = adds

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Add the arguments, then parse them. Ends with exit code 2 for an unknown option."""
        self.add_arguments()
        options, rest = super().parse_known_args(args, namespace)
        # What is left of a command that has overrides are some of these; see `farm.run.parse`.
        unknown = [
            word for word in rest if word.startswith("-") or not hasattr(options, "overrides")
        ]
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, rest

    def add_arguments(self) -> None:
        """Add those of all commands and the command's own, if that was not done yet."""
        if self._adds:
            adds, self._adds = resolve_name(self._adds), ""
            logs.add_arguments(self)
            adds(self)


def _meant(message: str, words: Sequence[str], options: Iterable[str]) -> str:
    """The message of argparse, with the nearest choice or option, or with how a value that begins
    with `-` is given. words: the command line. options: those that there are."""
    if found := _CHOICE.search(message):
        known = re.findall(r"[^\s,'\"]+", found["words"])
        word = f"invalid choice: {found['word']!r}{nearest(found['word'], known)}"
        return message[: found.start()] + word
    if found := _OPTION.match(message):
        # Without their dashes, which make any two words alike.
        bare = {option.lstrip("-"): option for option in options if option.startswith("--")}
        near = difflib.get_close_matches(found["word"], bare, n=1, cutoff=0.6)
        return f"{message}; did you mean {bare[near[0]]!r}?" if near else message
    if found := _VALUE.fullmatch(message):
        names = found["names"].split("/")
        for name, value in itertools.pairwise(words):
            if name in names and value.startswith("-"):
                return f"{message}; a value that begins with - is given as {name}={value}"
    return message
