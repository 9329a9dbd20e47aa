"""For schemathesis: what is true of bodies, and no JSON Schema says.

Integers are written as such: 50.0 is none. How long a job may wait at most depends on the
time of day.
"""

from typing import Any

import schemathesis

_VALID_FOR_MAX = 10**11


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    return as_meant(body)


def as_meant(value: Any) -> Any:
    """The value with whole floats as integers, and no wait beyond the year 9999."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [as_meant(element) for element in value]
    if isinstance(value, dict):
        meant = {name: as_meant(element) for name, element in value.items()}
        if isinstance(meant.get("valid_for"), int):
            meant["valid_for"] = min(meant["valid_for"], _VALID_FOR_MAX)
        return meant
    return value
