"""The calls of the Admin service: backends, tenants, policies, counters, drain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from expresslane_client.backends import Backend, Drained, Policy, Snapshot, Tenant, class_value
from expresslane_client.channels import translated_errors
from expresslane_client.connection import Connection
from expresslane_client.errors import InputError
from expresslane_client.v1 import admin_pb2
from expresslane_client.v1.admin_pb2_grpc import AdminStub

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from expresslane_client.v1.admin_pb2_grpc import AdminAsyncStub

__all__ = ["AdminCalls"]


class AdminCalls(Connection):
    """What an administrator sees and changes."""

    @property
    def admin(self) -> AdminAsyncStub:
        """The generated stub of the Admin service, for what this class does not cover."""
        return AdminStub(self.channel)

    async def list_backends(self) -> list[Backend]:
        """All backends, ordered by name."""
        backends: list[Backend] = []
        token = ""
        while True:
            request = admin_pb2.ListBackendsRequest(page_token=token)
            with translated_errors():
                page = await self.admin.ListBackends(request, metadata=self._call_metadata())
            backends += map(Backend.from_proto, page.backends)
            token = page.next_page_token
            if not token:
                return backends

    async def get_backend(self, name: str) -> Backend:
        """One backend, by its name with or without `backends/`."""
        request = admin_pb2.GetBackendRequest(name=_resource(name))
        with translated_errors():
            return Backend.from_proto(await self.admin.GetBackend(request, metadata=self._call_metadata()))

    async def update_backend(
        self,
        name: str,
        *,
        concurrency_enabled: bool | None = None,
        cap: int | None = None,
        requests_per_min: int | None = None,
        tokens_per_min: int | None = None,
    ) -> Backend:
        """Change a backend while work goes on: its concurrency switch, its cap, its limits (0 = none).

        Returns it as it is then.
        """
        changes = {
            "concurrency_enabled": concurrency_enabled,
            "cap": cap,
            "requests_per_min": requests_per_min,
            "tokens_per_min": tokens_per_min,
        }
        backend = admin_pb2.Backend(name=_resource(name))
        update_mask = _changed(backend, changes)
        request = admin_pb2.UpdateBackendRequest(backend=backend, update_mask=update_mask)
        with translated_errors():
            return Backend.from_proto(await self.admin.UpdateBackend(request, metadata=self._call_metadata()))

    async def update_tenant(
        self,
        tenant: str,
        *,
        weight: int | None = None,
        max_class: str | None = None,
        requests_per_min: int | None = None,
        tokens_per_min: int | None = None,
        queue_limit_prompts: int | None = None,
        queue_limit_bytes: int | None = None,
        max_open_calls: int | None = None,
        max_open_sessions: int | None = None,
        unread_limit_results: int | None = None,
        unread_limit_bytes: int | None = None,
        job_limit: int | None = None,
        job_results_limit_bytes: int | None = None,
        kept_limit: int | None = None,
        kept_results_limit_bytes: int | None = None,
    ) -> Tenant:
        """Change a tenant while work goes on: its share, its highest class, its limits, what may be held for it.

        Of limits and bounds 0 = none of its own. Returns it as it is then.
        """
        changes = {
            "weight": weight,
            "max_class": None if max_class is None else class_value(max_class),
            "requests_per_min": requests_per_min,
            "tokens_per_min": tokens_per_min,
            "queue_limit_prompts": queue_limit_prompts,
            "queue_limit_bytes": queue_limit_bytes,
            "max_open_calls": max_open_calls,
            "max_open_sessions": max_open_sessions,
            "unread_limit_results": unread_limit_results,
            "unread_limit_bytes": unread_limit_bytes,
            "job_limit": job_limit,
            "job_results_limit_bytes": job_results_limit_bytes,
            "kept_limit": kept_limit,
            "kept_results_limit_bytes": kept_results_limit_bytes,
        }
        message = admin_pb2.Tenant(tenant=tenant)
        update_mask = _changed(message, changes)
        request = admin_pb2.UpdateTenantRequest(tenant=message, update_mask=update_mask)
        with translated_errors():
            return Tenant.from_proto(await self.admin.UpdateTenant(request, metadata=self._call_metadata()))

    async def set_policy(self, policy: str, *, prompt_class: str = "", model: str = "") -> list[Policy]:
        """Order what waits and what comes by another policy: everywhere, or for a class, a model, or both.

        An empty policy takes the scope's own one back. Returns the policies that hold then, the general one first.
        """
        wanted = admin_pb2.Policy(model=model, policy=policy)
        setattr(wanted, "class", class_value(prompt_class))
        with translated_errors():
            request = admin_pb2.SetPolicyRequest(policy=wanted)
            answer = await self.admin.SetPolicy(request, metadata=self._call_metadata())
        return [Policy.from_proto(one) for one in answer.policies]

    async def get_snapshot(self) -> Snapshot:
        """Queue depths and counters of the whole service."""
        with translated_errors():
            answer = await self.admin.GetSnapshot(admin_pb2.GetSnapshotRequest(), metadata=self._call_metadata())
        return Snapshot.from_proto(answer)

    async def drain(self) -> Drained:
        """Make the service accept no more work; what was accepted goes on. Cannot be undone."""
        with translated_errors():
            answer = await self.admin.Drain(admin_pb2.DrainRequest(), metadata=self._call_metadata())
        return Drained(answer.queued, answer.in_flight)


def _changed(message: Message, changes: Mapping[str, object]) -> FieldMask:
    """Set in `message` what is to change, and name it. Raises InputError where all changes are None."""
    wanted = {path: value for path, value in changes.items() if value is not None}
    if not wanted:
        raise InputError(f"nothing to change: give {', '.join(changes)}")
    for path, value in wanted.items():
        setattr(message, path, value)
    return FieldMask(paths=list(wanted))


def _resource(name: str) -> str:
    return name if name.startswith("backends/") else f"backends/{name}"
