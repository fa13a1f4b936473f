"""Passwords and tokens in the addresses of stores: `http://token@host`, `postgresql://user:password@host/db?password=…`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["MASK", "masked", "masking"]

MASK = "***"
WORD = r"[^\s'\"]*"  # what an address in a text may go on with
LOGIN = r"(https?://|[\w+.-]+://[^\s'\"/@:]*:){}@"  # all of a web address's is one; of a database's, the user's name is none
QUERY = re.compile(r"([?&][^\s=&?'\"]*(?:pass|pwd|token|secret|key|sig|auth|cred|sas|jwt)[^\s=&?'\"]*=)[^\s&'\")]+", re.IGNORECASE)
IN_A_TEXT = re.compile(LOGIN.format(WORD))
ADDRESS = re.compile(r"\A" + LOGIN.format(".*"), re.DOTALL)  # a text that is an address: a password in it may hold anything


def masked(text: str) -> str:
    """A text with `***` for what is secret in the addresses in it."""
    return QUERY.sub(rf"\g<1>{MASK}", IN_A_TEXT.sub(rf"\g<1>{MASK}@", ADDRESS.sub(rf"\g<1>{MASK}@", text)))


@contextmanager
def masking() -> Iterator[None]:
    """Errors that would tell a secret tell it masked."""
    try:
        yield
    except Exception as error:
        if masked(str(error)) == str(error):
            raise
        raise RuntimeError(f"{type(error).__name__}: {masked(str(error))}") from None
