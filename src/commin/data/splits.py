"""Who trains and who tests: a split that depends on names alone, so that it is the same wherever it is made."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from commin.errors import UserError


def assign(groups: Sequence[str], valid: float, test: float, seed: int = 0) -> list[str]:
    """``test``, ``valid`` or ``train`` for each picture.

    Groups are taken in the order of SHA-256(seed, group), first for test, then for valid, until each holds its number.

    Args:
        groups: for each picture what must stay together: whom it shows, or its own name.
        valid: pictures in valid: from 1 a number, below 1 a share of all.
        test: the same for test.
        seed: another one gives another split.

    Raises:
        UserError: nothing would be left to train on, or a number is negative.
    """
    wanted = {
        name: int(number if number >= 1 else number * len(groups))
        for name, number in (("test", test), ("valid", valid))
    }
    if min(valid, test) < 0 or sum(wanted.values()) >= len(groups):
        raise UserError(
            f"{len(groups)} pictures: cannot put {test:g} in test and {valid:g} in valid and keep some for train"
        )
    members: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        members[group].append(number)
    splits = ["train"] * len(groups)
    order = sorted(members, key=lambda group: hashlib.sha256(f"{seed}\x1f{group}".encode()).digest())
    for group in order:
        name = next((name for name, left in wanted.items() if left > 0), None)
        if name is None:
            break
        wanted[name] -= len(members[group])
        for number in members[group]:
            splits[number] = name
    return splits
