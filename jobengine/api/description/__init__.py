"""The description of the API: OpenAPI for programs, and a page of it for people.

Operations are written down here, one module for each part of the API; their schemas are
made from the structs that read and write the bodies. No behaviour of the API lives here.
"""


def is_page(resource: object) -> bool:
    """Whether the resource serves people and not programs: a page, a stylesheet, a form.

    Its class says so by `page = True`, and the description leaves it out; every other route
    is in it.
    """
    return getattr(resource, "page", False) is True
