"""The audit over HTTP: who changed what, from where, and the proof that nothing was taken out of it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlalchemy import Row

from admin_api.access import Reader
from admin_api.house import House
from admin_api.paging import Paging, listed
from admin_api.records import newest_first
from admin_api.wire import Instant, Page, Reply, Text
from ledger.audit import check, driver
from ledger.tables import audit

router = APIRouter(prefix="/v1/audit", tags=["audit"])

_BROKEN_MAX = 100


class AuditReply(Reply):
    """One change."""

    seq: int = Field(description="Its place in the chain, from 1 on without a gap.", examples=[17])
    at: Instant = Field(description="When.")
    actor: str = Field(
        description="Who: an admin's address, admin-key, a key, or system.", examples=["ada@example.org"]
    )
    role: str = Field(description="In which role.", examples=["owner"])
    address: str = Field(description="From where.", examples=["192.0.2.7"])
    request_id: UUID | None = Field(description="In which request.", examples=["0198f2a1-7c1e-7d50-9a51-3f6de0a5a9b1"])
    action: str = Field(description="What was done.", examples=["user.tier"])
    target_type: str = Field(description="To what kind of thing.", examples=["user"])
    target_id: str = Field(description="To which.", examples=["0198f2a1-7c1e-7d50-9a51-3f6de0a5a9b1"])
    before: Any = Field(description="How it was; null where it was not.", examples=[{"tier": "free"}])
    after: Any = Field(description="How it is; null where it is no more.", examples=[{"tier": "pro"}])

    @classmethod
    def of(cls, row: Row[Any]) -> AuditReply:
        return cls(**row._mapping)


class AuditCheck(Reply):
    """Whether the chain is whole."""

    holds: bool = Field(description="Whether every row is what was written, and none is missing.", examples=[True])
    looked_at: int = Field(description="Rows that were looked at.", examples=[1204])
    broken: list[str] = Field(description="What is wrong, a sentence each; at most a hundred.", examples=[[]])


_COLUMNS = tuple(audit.c[name] for name in AuditReply.model_fields)


@router.get("", operation_id="list_audit", summary="List changes", **listed(AuditReply))
async def list_audit(
    house: House,
    caller: Reader,
    paging: Paging,
    actor: Annotated[Text | None, Query(description="Only what this one did.", examples=["admin-key"])] = None,
    action: Annotated[Text | None, Query(description="Only this action.", examples=["user.tier"])] = None,
    target_type: Annotated[Text | None, Query(description="Only to this kind of thing.", examples=["user"])] = None,
    target_id: Annotated[Text | None, Query(description="Only to this one.", examples=["pro"])] = None,
    since: Annotated[Instant | None, Query(description="From this instant on.")] = None,
    until: Annotated[Instant | None, Query(description="Before this instant.")] = None,
) -> Page[AuditReply] | Response:
    """Changes, newest first."""
    known = audit.c
    equal = {known.actor: actor, known.action: action, known.target_type: target_type, known.target_id: target_id}
    fetch = newest_first(house, _COLUMNS, place=known.seq, at=known.at, equal=equal, since=since, until=until)
    return await paging.answer(
        "audit", fetch, key=lambda row: (row.seq,), types=(int,), shape=AuditReply.of, model=AuditReply
    )


@router.get("/verify", operation_id="verify_audit", summary="Check the chain")
async def verify_audit(house: House, caller: Reader) -> AuditCheck:
    """Each row is sealed by a hash over itself and the row before it: all of them are computed again."""
    async with house.engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        looked_at, broken = await check(await driver(connection))
    return AuditCheck(holds=not broken, looked_at=looked_at, broken=broken[:_BROKEN_MAX])
