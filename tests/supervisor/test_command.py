import pytest

from litefs.config import ExecCommand
from litefs.errors import ConfigError
from litefs.supervisor import command


def test_line_with_conditions():
    made = command.from_line("sqlite3 /litefs/db 'select 1'", ExecCommand("", {"if-candidate": True}))
    assert made.argv == ("sqlite3", "/litefs/db", "select 1")
    assert made.conditions == {"if-candidate": True}
    assert made.name == "sqlite3"
    assert str(made) == "sqlite3 /litefs/db 'select 1'"


def test_empty_line():
    with pytest.raises(ConfigError, match="a command is empty"):
        command.from_line(" ")


@pytest.mark.parametrize(
    ("arguments", "argv"),
    [
        (["a", "b", "c"], ("a", "b", "c")),
        (["sh", "-c", "'exit 5'"], ("sh", "-c", "exit 5")),  # quoted twice, as LiteFS needs it
        (["sh", "-c", "exit 5"], ("sh", "-c", "exit 5")),
        (["sh -c 'exit 5'"], ("sh", "-c", "exit 5")),
        (["sh", "-c", "echo 'a' && echo 'b'"], ("sh", "-c", "echo 'a' && echo 'b'")),
        (["find", ".", "-exec", "ls", "{}", ";"], ("find", ".", "-exec", "ls", "{}", ";")),
    ],
)
def test_arguments(arguments, argv):
    assert command.from_arguments(arguments).argv == argv
