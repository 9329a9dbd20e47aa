"""A client of the HTTP API, over a socket or straight into the WSGI application."""

import http.client
import json
import threading
from dataclasses import dataclass
from typing import Any, Protocol

import falcon.testing

JobDict = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Transport(Protocol):
    def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> Answer: ...


class HttpTransport:
    """One keep-alive connection; not for two threads at once."""

    def __init__(self, port: int, timeout: float = 30) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self.sent = threading.Event()  # set when a request is on its way

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
        self._connection.request(method, path, body=body, headers=headers)
        self.sent.set()
        response = self._connection.getresponse()
        return Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )

    def close(self) -> None:
        self._connection.close()


class WsgiTransport:
    """Calls the application in this process."""

    def __init__(self, app: Any) -> None:
        self._client = falcon.testing.TestClient(app)

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
        path, _, query = path.partition("?")
        result = self._client.simulate_request(
            method, path, query_string=query or None, headers=headers, body=body
        )
        return Answer(
            result.status_code, {k.lower(): v for k, v in result.headers.items()}, result.content
        )


class Api:
    """The calls of JobEngine's API on one queue, as a service that may read and write it."""

    def __init__(
        self,
        transport: Transport,
        queue: str,
        service: str | None = "both",
        authorization: str | None = None,
    ) -> None:
        self.transport = transport
        self.queue = queue
        self.service = service
        self.authorization = authorization

    def as_service(self, service: str) -> "Api":
        return Api(self.transport, self.queue, service)

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """A call with its headers; a body of bytes is sent as it is, others as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        own = {
            "X-Name": self.service,
            "X-Queue": self.queue,
            "Authorization": self.authorization,
        }
        sent = {name: value for name, value in own.items() if value is not None}
        return self.transport.send(method, path, sent | (headers or {}), body)

    def create(self, content: Any = None, priority: int = 50, valid_for: int = 600) -> Answer:
        job = {"content": content or {}, "valid_for": valid_for, "priority": priority}
        return self.send("PUT", "/api/v1/jobs/create", job)

    def next(self) -> Answer:
        return self.send("GET", "/api/v1/jobs/next")

    def all(self, state: str | None = None, query: str = "") -> Answer:
        headers = {} if state is None else {"X-Status-Filter": state}
        return self.send("GET", f"/api/v1/jobs{query}", headers=headers)

    def get(self, uid: str) -> Answer:
        return self.send("GET", f"/api/v1/jobs/{uid}")

    def update(self, uid: str, **changes: Any) -> Answer:
        return self.send("POST", f"/api/v1/jobs/{uid}", changes)

    def delete(self, uid: str) -> Answer:
        return self.send("DELETE", f"/api/v1/jobs/{uid}")

    def listed(self, state: str | None = None, query: str = "") -> list[JobDict]:
        """The jobs of a list, after a look at its keys."""
        answer = self.all(state, query)
        if answer.status == 204:
            assert answer.body == b""
            return []
        assert answer.status == 200, answer
        jobs = answer.json()
        assert list(jobs) == [str(index) for index in range(len(jobs))]
        return list(jobs.values())

    def made(self, state: str = "queued", **arguments: Any) -> JobDict:
        """A new job, brought into the state."""
        answer = self.create(**arguments)
        assert answer.status == 201, answer
        job: JobDict = answer.json()
        if state != "queued":
            job = self.update(job["uid"], status=state).json()
            assert job["state"] == state
        return job
