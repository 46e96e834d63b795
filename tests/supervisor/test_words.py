import pytest

from litefs.errors import ConfigError
from litefs.supervisor import words


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        (" \t\n ", []),
        ("a  b\tc", ["a", "b", "c"]),
        ("sh -c 'a && b; c | d > e'", ["sh", "-c", "a && b; c | d > e"]),
        ('echo "two words" \'"\' "\'"', ["echo", "two words", '"', "'"]),
        (r"one\ word \\ \" \;", ["one word", "\\", '"', ";"]),
        (r'"a \" b" ' + r"'a \ b'", ['a " b', r"a \ b"]),
        ("'' \"\" x", ["", "", "x"]),
        ("a'b'\"c\"d", ["abcd"]),
        ("${HOME} * ~ #x !", ["${HOME}", "*", "~", "#x", "!"]),
    ],
)
def test_split(line, expected):
    assert words.split(line) == expected


@pytest.mark.parametrize("operator", ["&&", "||", ";", "|", "<", ">", ">>", "&", "(", ")", "`"])
def test_shell_syntax_is_refused_with_the_way_out(operator):
    with pytest.raises(ConfigError) as error:
        words.split(f"a {operator} b")
    assert f"unquoted {operator} in" in str(error.value)
    assert f"sh -c 'a {operator} b'" in str(error.value)
    assert error.value.exit_code == 2


def test_the_advice_is_quoted_well_enough_to_be_used():
    with pytest.raises(ConfigError) as error:
        words.split("echo 'a b' && c")
    advice = error.value.hint.partition(": ")[2]
    assert words.split(advice.replace("'\\''", '"')) == ["sh", "-c", 'echo "a b" && c']


@pytest.mark.parametrize("line", ["a 'b", 'a "b', 'a "b\\"', "a \\"])
def test_unfinished_lines(line):
    with pytest.raises(ConfigError, match="exec: no"):
        words.split(line)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("'exit 5'", "exit 5"),
        ('"exit 5"', "exit 5"),
        ("exit 5", "exit 5"),
        ("'a' 'b'", "'a' 'b'"),
        ("x 'a'", "x 'a'"),
        ("'", "'"),
        ("''", ""),
        ('"it\'s"', "it's"),
    ],
)
def test_unwrap(argument, expected):
    assert words.unwrap(argument) == expected
