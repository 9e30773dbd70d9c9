"""Paths inside a recipe: environment variables are filled in; a relative path starts from the recipe's folder."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo


def resolve(text: str, info: ValidationInfo) -> str:
    """``text`` with ``${VARIABLE}`` and ``~`` filled in, relative to ``folder`` of the validation context, if any.

    A name without a slash or a suffix, such as one of the zoo's, stays as it is, and so does ``hub:OWNER/NAME``.

    Raises:
        ValueError: a variable is not set.
    """
    filled = os.path.expanduser(os.path.expandvars(text))
    unset = re.search(r"\$\{?\w+\}?", filled)
    if unset or not filled:
        raise ValueError(f"{text}: set the environment variable {unset.group().strip('${}') if unset else ''}")
    path = Path(filled)
    if filled.startswith("hub:"):
        return filled
    if path.is_absolute() or (path.name == filled and not path.suffix):
        return filled
    return str(Path((info.context or {}).get("folder", ".")) / path)


RecipePath = Annotated[str, AfterValidator(resolve)]
