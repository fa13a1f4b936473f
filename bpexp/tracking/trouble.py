"""Which errors of a store pass, and what they come down to."""

import re
import sqlite3
from collections.abc import Iterator

from filelock import Timeout
from mlflow.exceptions import RestException
from requests import exceptions as requests
from sqlalchemy.exc import DBAPIError, OperationalError

from bpexp.masks import masked

__all__ = ["AwayError", "reason", "trouble"]

GONE = (
    ConnectionError,
    TimeoutError,
    Timeout,
    requests.ConnectionError,
    requests.Timeout,
    requests.ChunkedEncodingError,
    requests.RetryError,  # for the answers 408, 429, 500, 502, 503, 504, which MLflow's client takes for a call to try again
)
TOO_MANY, SERVERS = 429, 500  # HTTP statuses: too many calls; from here on it is the server's fault
MANY_ANSWERS = re.compile(r"^too many (\d+) error responses$")  # which urllib3 says of the first one, too
WRAPPERS = ("mlflow", "requests", "urllib3")  # packages that raise errors of their own without naming a cause


class AwayError(Exception):
    """A store that is away: its words tell why."""


def trouble(error: BaseException) -> bool:
    """Whether an error of a store passes: a server that is down, slow or has too much to do, a database that is locked.

    All else, such as a full disk or a missing permission, is of the run that had it.
    """
    for it in _chain(error):
        if isinstance(it, (AwayError, *GONE)) or (status := _status(it)) == TOO_MANY or status >= SERVERS:
            return True
        if isinstance(it, DBAPIError) and it.connection_invalidated:  # a driver's other words for a connection that is gone
            return True
        if isinstance(it, OperationalError):
            return not isinstance(it.orig, sqlite3.Error) or any(word in str(it.orig) for word in ("locked", "busy"))
    return False


def reason(error: BaseException) -> str:
    """Why a store can't be used, in a line: the system's own words, or the database driver's, where there are some."""
    chain = list(_chain(error))
    told = chain[-1] if any(isinstance(it, requests.RequestException) for it in chain) else error
    words = MANY_ANSWERS.sub(r"the server answers with HTTP status \1", str(getattr(told, "orig", None) or told))
    return (masked(words).strip() or type(told).__name__).splitlines()[0][:200]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it stands for, down to the first."""
    found: BaseException | None = error
    while found is not None:
        yield found
        wraps = type(found).__module__.partition(".")[0] in WRAPPERS
        found = found.__cause__ or (found.__context__ if wraps else None)


def _status(error: BaseException) -> int:
    """The HTTP status that a server answered with, or 0."""
    if isinstance(error, RestException):
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    response = getattr(error, "response", None) if isinstance(error, requests.HTTPError) else None
    return 0 if response is None else int(response.status_code)
