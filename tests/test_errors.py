"""The one line of bad input stays one line, whatever a damaged file puts into it."""

import pickle

from commin.errors import UserError


def test_messages_are_one_printable_line() -> None:
    assert str(UserError("ρ = 1/48: holds \n\x1b[31m channels")) == "ρ = 1/48: holds \\n\\x1b[31m channels"


def test_messages_survive_a_process_border() -> None:
    assert str(pickle.loads(pickle.dumps(UserError("a\tb")))) == "a\\tb"
