"""HTTP: Falcon resources, the structs of the wire, and errors as problem+json.

Status codes and headers are known here alone. A resource reads the request, calls
one use case of the engine, and writes the answer.
"""
