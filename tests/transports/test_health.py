"""grpc.health.v1: asked once, watched, and without a token; and what reflection tells."""

from pathlib import Path
from typing import Any

import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.reflection.v1 import reflection_pb2
from grpclib.reflection.v1alpha import reflection_pb2 as alpha_pb2
from trio.testing import wait_all_tasks_blocked

from palyra_trio.transports.grpc_services import SERVICES
from tests.transports.served import Served, open_served

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


async def check(served: Served, service: str) -> int:
    response = await served.call(CHECK, HealthCheckRequest(service=service), metadata={})
    return int(response.status)


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_a_service_is_served_until_the_process_stops(tmp_path: Path, service: str) -> None:
    async with open_served(tmp_path) as served:
        assert await check(served, service) == SERVING
        served.health.stop_serving()
        assert await check(served, service) == NOT_SERVING


async def test_a_service_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        with pytest.raises(GRPCError) as refused:
            await check(served, "nothing")
    assert refused.value.status is Status.NOT_FOUND


async def test_a_watcher_is_told_at_first_and_when_the_process_stops_and_then_let_go(tmp_path: Path) -> None:
    heard: list[int] = []
    let_go: list[Status] = []

    async with open_served(tmp_path) as served, trio.open_nursery() as nursery:

        async def watch() -> None:
            async with served.talk(WATCH, metadata={}) as talk:
                await talk.say(HealthCheckRequest())
                try:
                    while True:
                        heard.append((await talk.hear()).status)
                except GRPCError as error:
                    let_go.append(error.status)

        for _ in range(3):
            nursery.start_soon(watch)
        await wait_all_tasks_blocked(0.01)
        assert heard == [SERVING] * 3
        served.health.stop_serving()
    assert heard == [SERVING] * 3 + [NOT_SERVING] * 3
    assert let_go == [Status.UNAVAILABLE] * 3


async def test_who_watches_what_is_not_there_is_told_so_and_may_stay(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, served.talk(WATCH, metadata={}) as talk:
        await talk.say(HealthCheckRequest(service="nothing"))
        assert (await talk.hear()).status == HealthCheckResponse.SERVICE_UNKNOWN
        with trio.move_on_after(0.01) as waiting:
            await talk.hear()
        assert waiting.cancelled_caught


@pytest.mark.parametrize(("version", "messages"), [("v1", reflection_pb2), ("v1alpha", alpha_pb2)])
async def test_reflection_tells_the_services_and_their_files(tmp_path: Path, version: str, messages: Any) -> None:
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    async with open_served(tmp_path) as served, served.talk(method, metadata={}) as talk:
        await talk.say(messages.ServerReflectionRequest(list_services=""))
        listed = await talk.hear()
        assert {each.name for each in listed.list_services_response.service} == {*SERVICES, "grpc.health.v1.Health"}
        for service in SERVICES:
            await talk.say(messages.ServerReflectionRequest(file_containing_symbol=service))
            assert (await talk.hear()).file_descriptor_response.file_descriptor_proto
