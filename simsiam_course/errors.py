"""The one error that a person can do something about."""


class InputError(ValueError):
    """Bad input, told in one sentence: what was wrong, what was expected, what to do."""
