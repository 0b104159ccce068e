"""The floor of HTTP itself: granian's RSGI reads the body and answers the same bytes always."""

HEADERS = [("content-type", "application/json")]


async def app(scope, protocol):
    await protocol()
    protocol.response_bytes(200, HEADERS, b'{"predictions":[0.0]}')
