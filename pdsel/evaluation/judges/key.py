"""The API key of a judge's endpoint: read from the environment when it is needed, kept nowhere, never shown."""

import json
import os
import re

from pdsel.checks import DataError

PLACEHOLDER = 8  # characters; anything shorter is not a secret, and hiding it would garble ordinary text


class EnvironmentKey:
    """The name of the environment variable that holds an API key.

    Examples
    --------
    >>> EnvironmentKey("NO_SUCH_VARIABLE").read()
    ''
    """

    def __init__(self, variable):
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):  # it may be the key itself, so the message does not show it
            raise DataError(
                "key_variable: is not the name of an environment variable. Remedy: give a name such as "
                "'OPENAI_API_KEY', and the key to the environment alone"
            )
        self.variable = variable

    def read(self):
        """The key, or "" if the variable is not set."""
        key = os.environ.get(self.variable, "").strip()
        if not re.fullmatch(r"[!-~]*", key):  # an error of the transport would print the key
            del key  # a verbose traceback would print this variable
            raise DataError(
                f"environment variable {self.variable}: has characters that no key has (blanks, line breaks, "
                "non-ASCII). Remedy: set it to the key alone"
            )
        return key

    def hide(self, text):
        """The text without the key, which the endpoint may repeat."""
        key = self.read()
        if len(key) >= PLACEHOLDER:
            for form in (key, json.dumps(key)[1:-1], key.replace("/", r"\/")):
                text = text.replace(form, "[key]")
        return text
