"""Senders: what SDKs send, byte for byte as they send it, and again until it is answered 200."""

import gzip
import http.client
import json
import random
import threading
import time
from typing import Any

from tests.blackbox.process import basic
from tests.chaos.shop import Device


class Sender(threading.Thread):
    """An SDK in wire format: batches of its devices' calls, each sent until it is answered 200.

    The same batch goes out again under the same messageIds after a broken connection, a 429 or a
    5xx, and now and then although it was answered, as a client does that lost the answer.
    """

    def __init__(self, port: int, write_key: str, devices: list[Device], seed: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.write_key = write_key
        self.devices = devices
        self.accepted: list[str] = []
        """The messageIds answered 200, once each."""
        self.sent = self.repeats = self.refused = 0
        self.wrong: list[str] = []
        self.ending = threading.Event()
        self.resting = threading.Event()
        """While it is set nothing new is begun."""
        self.pause = 0.02
        self._rng = random.Random(seed)
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        rng = self._rng
        while not self.ending.is_set():
            if self.resting.is_set():
                time.sleep(0.05)
                continue
            chosen = rng.sample(self.devices, min(len(self.devices), rng.choice((1, 3, 6))))
            calls = [device.next() for device in chosen for _ in range(rng.choice((1, 2, 4)))]
            self._until_taken(calls)
            if rng.random() < 0.03:
                self.repeats += 1
                self._until_taken(calls, again=True)
            time.sleep(self.pause * rng.random())

    def _until_taken(self, calls: list[dict[str, Any]], again: bool = False) -> None:
        body = json.dumps({"batch": calls, "writeKey": self.write_key}).encode()
        tries = 0
        while True:
            self.sent += 1
            status = self._post(body)
            if status == 200:
                break
            tries += 1
            if status in (429, 503):
                self.refused += 1
            elif status:
                self.wrong.append(f"{status} for {body[:200]!r}")
            time.sleep(0.05 if tries < 20 else 0.3)
        self.repeats += tries
        if not again:
            self.accepted += [call["messageId"] for call in calls]

    def _post(self, body: bytes) -> int:
        """Return the status; 0 when the connection broke."""
        headers = {"Content-Type": "application/json", "Authorization": basic(self.write_key)}
        if self._rng.random() < 0.3:
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        connection = self._connection
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self._connection = None
        try:
            connection.request("POST", "/v1/batch", body, headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0
        self._connection = connection
        return answer.status

    def end(self) -> None:
        """Finish what was begun, then no more."""
        self.ending.set()
        self.join(60)
        assert not self.is_alive(), "a batch was not taken within a minute"
        if self._connection is not None:
            self._connection.close()


class SdkSender(threading.Thread):
    """The unmodified segment-analytics-python; what it gives up is not counted as accepted."""

    def __init__(self, url: str, write_key: str, devices: list[Device], seed: int) -> None:
        super().__init__(daemon=True)
        from segment.analytics.client import Client

        self.devices = devices
        self.given_up: list[str] = []
        self.called: list[str] = []
        self.ending = threading.Event()
        self.resting = threading.Event()
        self._rng = random.Random(seed)
        self._client = Client(
            write_key, host=url, on_error=self._failed, upload_interval=0.05, upload_size=20,
            max_retries=30, timeout=10, thread=1, max_queue_size=100_000, gzip=True,
        )

    def _failed(self, _error: object, items: Any) -> None:
        self.given_up += [item["messageId"] for item in items]

    def run(self) -> None:
        while not self.ending.is_set():
            if self.resting.is_set():
                time.sleep(0.05)
                continue
            call = self._rng.choice(self.devices).next()
            self._call(call)
            self.called.append(call["messageId"])
            time.sleep(0.02 * self._rng.random())

    def _call(self, call: dict[str, Any]) -> None:
        ids = {
            "user_id": call.get("userId"), "anonymous_id": call["anonymousId"],
            "message_id": call["messageId"],
        }
        if call["type"] == "identify":
            self._client.identify(traits=call["traits"], **ids)
        elif call["type"] == "page":
            self._client.page(name=call["name"], properties=call["properties"], **ids)
        else:
            self._client.track(event=call["event"], properties=call["properties"], **ids)

    def end(self) -> None:
        """Send what is left."""
        self.ending.set()
        self.join(60)
        self._client.flush()
        self._client.shutdown()

    @property
    def accepted(self) -> list[str]:
        """Return the messageIds that the SDK got rid of: it stops trying at a 200 only."""
        lost = set(self.given_up)
        return [id for id in self.called if id not in lost]
