"""Rules for calls nobody typed: list, create, read, change, retire, restore. In the form that the file has, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response

from admin_api import entries
from admin_api.access import Reader, Writer
from admin_api.entries import EntryName, EntryReply, EntryRoute, Search, WithRetired, life
from admin_api.etag import IfMatch
from admin_api.house import House
from admin_api.merge_patch import patch_of
from admin_api.paging import Paging, listed
from admin_api.problems import declared
from admin_api.wire import Body, Page
from config.catalog_shelf import TASKS, Entry
from config.task_form import TaskForm
from policies.task import TaskRule

router = APIRouter(prefix="/v1/tasks", tags=["tasks"], route_class=EntryRoute)

if TYPE_CHECKING:
    TaskPatch = Body
else:
    TaskPatch = patch_of(TaskForm, "TaskPatch")


class TaskReply(EntryReply, TaskForm):
    """A rule for calls nobody typed."""

    @classmethod
    def of(cls, entry: Entry[TaskRule]) -> TaskReply:
        """The rule as it stands."""
        return cls.model_construct(None, **dict(TaskForm.showing(entry.value)), **life(entry))


@router.get("", operation_id="list_tasks", summary="List rules for tasks", **listed(TaskReply))
async def list_tasks(
    house: House, caller: Reader, paging: Paging, search: Search = "", include_retired: WithRetired = False
) -> Page[TaskReply] | Response:
    """Rules by name. Of several that match a task's label the one that names it counts, else the longest pattern."""
    return await paging.answer(
        "tasks",
        lambda after, limit: entries.page(house, TASKS, search, include_retired, after, limit),
        key=lambda entry: (entry.value.name,),
        types=(str,),
        shape=TaskReply.of,
        model=TaskReply,
    )


@router.post(
    "", operation_id="create_task", summary="Create a rule for tasks", status_code=201, responses=declared(409)
)
async def create_task(house: House, caller: Writer, body: TaskForm, response: Response) -> TaskReply:
    """In force on every replica within two seconds."""
    return TaskReply.of(await entries.created(house, caller, TASKS, body, response, "/v1/tasks"))


@router.post(
    "/{name:path}/restore", operation_id="restore_task", summary="Restore a rule for tasks", responses=declared(409)
)
async def restore_task(house: House, caller: Writer, name: EntryName, response: Response) -> TaskReply:
    """Follow a retired rule again, as it was."""
    return TaskReply.of(await entries.restored(house, caller, TASKS, name, response))


@router.get("/{name:path}", operation_id="get_task", summary="Read a rule for tasks")
async def get_task(house: House, caller: Reader, name: EntryName, response: Response) -> TaskReply:
    """One rule, retired or not, with its ETag."""
    return TaskReply.of(await entries.one(house, TASKS, name, response))


@router.patch(
    "/{name:path}", operation_id="change_task", summary="Change a rule for tasks", responses=declared(409, 428)
)
async def change_task(
    house: House, caller: Writer, name: EntryName, body: TaskPatch, version: IfMatch, response: Response
) -> TaskReply:
    """In force on every replica within two seconds; calls that run keep what they began with."""
    return TaskReply.of(await entries.changed(house, caller, TASKS, name, body, version, response))


@router.delete(
    "/{name:path}",
    operation_id="retire_task",
    summary="Retire a rule for tasks",
    status_code=204,
    responses=declared(409, 428),
)
async def retire_task(house: House, caller: Writer, name: EntryName, version: IfMatch) -> None:
    """Its tasks are then paid like any other call, or follow the next rule that matches them."""
    await entries.retired(house, caller, TASKS, name, version)
