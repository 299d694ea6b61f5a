"""Workers, models, datasets."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Response

from coordinator.documents import LARGE, Caller, DigestPath, Services, answer, body, operation
from coordinator.roles import ANY
from rexis.api import (
    DatasetRegistration,
    DatasetView,
    Lineage,
    ModelRegistration,
    ModelView,
    Role,
    WorkerList,
    WorkerRegistration,
    WorkerView,
)
from rexis.protocol.errors import NotFoundError
from rexis.protocol.parsing import Strict

router = APIRouter(prefix="/v1", tags=["catalogue"])


@router.post(
    "/workers",
    **operation(
        "Announce the caller as a worker",
        (HTTPStatus.CREATED, WorkerView),
        (HTTPStatus.OK, WorkerView),
        takes=WorkerRegistration,
        roles=(Role.WORKER,),
    ),
)
def register_worker(
    caller: Caller, services: Services, document: Annotated[WorkerRegistration, body(WorkerRegistration)]
) -> Response:
    registered = services.workers.register(caller, document)
    services.bell.ring()
    return _registered(registered)


@router.get("/workers", **operation("All workers", (HTTPStatus.OK, WorkerList), roles=ANY))
def workers(caller: Caller, services: Services) -> Response:
    return answer(WorkerList(workers=services.workers.all()))


@router.post(
    "/models",
    **operation(
        "Make a model known that is registered on chain",
        (HTTPStatus.CREATED, ModelView),
        (HTTPStatus.OK, ModelView),
        takes=ModelRegistration,
        refuses=(502,),
        roles=(Role.MODEL_OWNER,),
    ),
)
def register_model(
    caller: Caller, services: Services, document: Annotated[ModelRegistration, body(ModelRegistration, LARGE)]
) -> Response:
    return _registered(services.catalogue.register_model(caller, document))


@router.get(
    "/models/{digest}/{epoch}", **operation("A model", (HTTPStatus.OK, ModelView), refuses=(404, 422), roles=ANY)
)
def model(caller: Caller, services: Services, digest: DigestPath, epoch: int) -> Response:
    found = services.catalogue.model(digest, epoch) if 0 <= epoch < 2**53 else None
    if found is None:
        raise NotFoundError(f"no model {digest} with key epoch {epoch} here", hint="its owner registers it")
    return answer(found)


@router.get(
    "/models/{digest}/{epoch}/lineage",
    **operation("The certified trainings that led to a model", (HTTPStatus.OK, Lineage), refuses=(404, 422), roles=ANY),
)
def lineage(caller: Caller, services: Services, digest: DigestPath, epoch: int) -> Response:
    found = services.catalogue.model(digest, epoch) if 0 <= epoch < 2**53 else None
    if found is None:
        raise NotFoundError(f"no model {digest} with key epoch {epoch} here", hint="its owner registers it")
    return answer(services.lineages.of(digest, epoch))


@router.post(
    "/datasets",
    **operation(
        "Make an uploaded blob known as a dataset",
        (HTTPStatus.CREATED, DatasetView),
        (HTTPStatus.OK, DatasetView),
        takes=DatasetRegistration,
        roles=(Role.REQUESTER,),
    ),
)
def register_dataset(
    caller: Caller, services: Services, document: Annotated[DatasetRegistration, body(DatasetRegistration)]
) -> Response:
    return _registered(services.catalogue.register_dataset(caller, document.digest))


@router.get(
    "/datasets/{digest}",
    **operation("A dataset", (HTTPStatus.OK, DatasetView), refuses=(404, 422), roles=(Role.REQUESTER, Role.WORKER)),
)
def dataset(caller: Caller, services: Services, digest: DigestPath) -> Response:
    found = services.catalogue.dataset_view(caller, digest)
    if found is None:
        raise NotFoundError(f"no dataset {digest} here", hint="upload it, then POST /v1/datasets")
    return answer(found)


def _registered(result: tuple[Strict, bool]) -> Response:
    document, created = result
    return answer(document, HTTPStatus.CREATED if created else HTTPStatus.OK)
