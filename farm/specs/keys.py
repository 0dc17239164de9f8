"""What a field of the inputs is to a step's key; see `farm.specs`."""

NOT_IN_KEY = {"key": False}
OMITTED_AT_DEFAULT = {"default_in_key": False}
