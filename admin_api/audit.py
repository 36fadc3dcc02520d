"""The audit over HTTP: who changed what, from where, and the proof that nothing was taken out of it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlalchemy import Row, Select, select

from admin_api.access import Reader
from admin_api.house import AdminHouse, House
from admin_api.paging import After, Paging, listed
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
    equal = {"actor": actor, "action": action, "target_type": target_type, "target_id": target_id}
    query = select(*_COLUMNS).order_by(audit.c.seq.desc())
    for name, value in equal.items():
        if value is not None:
            query = query.where(audit.c[name] == value)
    if since is not None:
        query = query.where(audit.c.at >= since)
    if until is not None:
        query = query.where(audit.c.at < until)

    async def fetch(after: After, limit: int) -> list[Row[Any]]:
        return await _rows(house, query if after is None else query.where(audit.c.seq < after[0]), limit)

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


async def _rows(house: AdminHouse, query: Select[Any], limit: int) -> list[Row[Any]]:
    async with house.engine.connect() as connection:
        return list(await connection.execute(query.limit(limit)))
