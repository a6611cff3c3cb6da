"""The one kind of error that a user causes and can mend."""


class ConfigError(ValueError):
    """A setting that cannot work: the message names the key, the value and what is allowed."""
