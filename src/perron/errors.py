"""The exceptions that Perron raises for a user's mistake; each message is one line that says what to do.

    PerronError
    ├── ContractError      a contract that makes no sense
    ├── DeclarationError   a system.py that can't be loaded, or a System that makes no sense
    ├── SourceError        data that can't be read
    ├── SinkError          a place that predictions can't be put in
    ├── DataError          data that was read and can't be used (too many bad rows, an empty split)
    ├── FeatureError       a features function that fails or can't be traced into the graph
    ├── ModelError         a model that can't be fitted or exported
    ├── BundleError        a bundle that is damaged or not a bundle
    │   └── ParityError    a graph that answers differently from the trained model
    ├── LedgerError        a ledger or store that can't be opened
    ├── NotFound           a name, version or id that isn't there
    ├── DeploymentError    a deployment that can't be, or failed
    │   └── Refused        a deployment that its environment doesn't allow: a gate, an approval, an order
    └── MissingPackage     an optional package that isn't installed

    SourceWarning          rows of a source that can't be read as what they are; the others are given

Faults in data are values (`perron.check.Fault`), never exceptions. Exit codes and HTTP statuses are
assigned by the command line and the server, not here.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "BundleError",
    "ContractError",
    "DataError",
    "DeclarationError",
    "DeploymentError",
    "FeatureError",
    "LedgerError",
    "MissingPackage",
    "ModelError",
    "NotFound",
    "ParityError",
    "PerronError",
    "Refused",
    "SinkError",
    "SourceError",
    "SourceWarning",
    "nearest",
]


class PerronError(Exception):
    """Base of every error that a user can mend; `str(error)` is one line."""


class ContractError(PerronError):
    """A contract that makes no sense; raised when the class is made."""


class DeclarationError(PerronError):
    """A system.py that can't be loaded, or a System whose parts contradict each other."""


class SourceError(PerronError):
    """A source that can't be read: the message names the file and, where there is one, the row."""


class SinkError(PerronError):
    """A sink that can't be written, or that another process is writing."""


class DataError(PerronError):
    """Data that was read and can't be used."""


class FeatureError(PerronError):
    """A features function that fails, or that can't be traced into the model's graph."""


class ModelError(PerronError):
    """A model that can't be fitted, or can't be exported exactly."""


class BundleError(PerronError):
    """A folder that isn't a bundle, or a bundle whose files don't match its manifest."""


class ParityError(BundleError):
    """A graph whose answers differ from the trained model's; shows the worst rows."""


class LedgerError(PerronError):
    """A ledger or store that can't be opened, read or written."""


class NotFound(PerronError):
    """A model, version, alias, run or prediction that isn't there."""


class DeploymentError(PerronError):
    """A deployment that can't be carried out, or that failed; what was live before still is."""


class Refused(DeploymentError):
    """A deployment that its environment doesn't allow; nothing was begun."""


class MissingPackage(PerronError):
    """An optional package that isn't installed; says which extra brings it."""


class SourceWarning(UserWarning):
    """Some rows of a source can't be read as what they are; the message is one line that names them."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to `word`, or lists the known ones."""
    known = [str(k) for k in known]
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(sorted(known)) if known else "there are none yet"
