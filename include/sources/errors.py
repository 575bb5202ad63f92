"""What can go wrong with a source, told apart by whether trying again can help."""

from include.errors import SourceError


class SchemaError(SourceError):
    """A field has another type than bronze holds; nothing was loaded, and trying again cannot help."""


class AccessError(SourceError):
    """The source refused the credentials, or they may not read what was asked; trying again cannot help."""


class LoadError(SourceError):
    """The lake did not take a load; bronze is as it was or holds it whole, and trying again is safe."""

    retryable = True


class SitesError(SourceError):
    """Some sites failed. What the others answered is in the lake, unless every site failed.

    Attributes:
        result: what was loaded, and the reason of each failure.
        retryable: False when no failed site can answer differently next time.
    """

    def __init__(self, message: str, result: object, *, retryable: bool) -> None:
        super().__init__(message, retryable=retryable)
        self.result = result


class ErasedError(SourceError):
    """A source is a person's who was erased from the lake; it is not asked, and trying again cannot help."""

    def __init__(self) -> None:
        super().__init__(
            "This site is of somebody who was erased (`lake erasures`), so it was not asked. Take it out of the sites "
            "file, and have its owner's data erased at the source too.",
            retryable=False,
        )
