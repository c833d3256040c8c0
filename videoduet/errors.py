"""Errors that are the user's to mend."""


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one clear sentence that names the thing and the mend.

    ``exit_code`` is 2 for wrong usage (an option, a config key) and 1 for everything else.
    """

    def __init__(self, message: str, *, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


def in_words(error: Exception) -> str:
    """What an error says, in one line: an InputError's sentence, and of another one its kind as well."""
    said = " ".join(str(error).split())
    if isinstance(error, InputError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
