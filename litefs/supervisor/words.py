"""Splitting a command line into words, without a shell: blanks, quotes and backslashes only.

LiteFS splits ``exec`` so, with one trap that is not copied: there an unquoted ``;``, ``&``, ``|``, ``<`` or ``>``
silently ends the command, and ``a && b`` runs ``a``. Here that is a configuration error that names the way out.
"""

from __future__ import annotations

from litefs.errors import ConfigError

BLANKS = " \t\r\n"
QUOTES = "'\""
SHELL_ONLY = ";&|<>()`"


def split(line: str) -> list[str]:
    """The words of ``line``.

    Single quotes keep everything up to the next one. Double quotes keep everything but the backslash, which here and
    outside quotes makes the next character an ordinary one.

    Raises:
        ConfigError: the line ends inside quotes or after a backslash, or only a shell could run it.
    """
    words: list[str] = []
    word: str | None = None  # None between words: '' is a word, too
    quote = ""
    characters = iter(enumerate(line))
    for at, character in characters:
        if character == "\\" and quote != "'":
            word = (word or "") + _escaped(line, characters)
        elif quote:
            if character == quote:
                quote = ""
            else:
                word = (word or "") + character
        elif character in QUOTES:
            quote, word = character, word or ""
        elif character in SHELL_ONLY:
            raise _needs_shell(line, at)
        elif character not in BLANKS:
            word = (word or "") + character
        elif word is not None:
            words.append(word)
            word = None
    if quote:
        raise ConfigError(f"exec: no closing {quote} in: {line}", "close it, or write \\ before it")
    return words if word is None else [*words, word]


def unwrap(argument: str) -> str:
    """``argument`` without the one pair of quotes around all of it, if there is one.

    LiteFS joins what follows ``--`` with blanks and splits it anew, so its users write ``-- sh -c "'exit 5'"``. We
    keep the arguments as they come, and take off the quotes that were meant for that second splitting.
    """
    if len(argument) < 2 or argument[0] not in QUOTES or argument[0] != argument[-1]:
        return argument
    inner, quote = argument[1:-1], argument[0]
    return argument if quote in inner else inner


def _escaped(line: str, characters: enumerate[str]) -> str:
    for _, character in characters:
        return character
    raise ConfigError(f"exec: nothing follows the last backslash in: {line}", "write two for one of them")


def _needs_shell(line: str, at: int) -> ConfigError:
    operator = line[at : at + 2] if line[at : at + 2] in ("&&", "||", ">>", "<<") else line[at]
    quoted = line.replace("'", "'\\''")
    return ConfigError(
        f"exec: unquoted {operator} in: {line}",
        f"commands run without a shell; quote it, or ask for a shell: sh -c '{quoted}'",
    )
