"""The obvious way to answer which stage a customer is in: FastAPI, pydantic, the SQLAlchemy ORM.

It reads one table by its key, which is less than Rejse's answer holds.
"""

import sys
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.support.postgres import sqlalchemy_url


class Base(DeclarativeBase):
    """The mapping's registry."""


class CustomerStage(Base):
    """A row of `customer_stages`."""

    __tablename__ = "customer_stages"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    journey_key: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[str | None]
    paused: Mapped[bool]
    entered_at: Mapped[datetime | None]
    furthest_stage: Mapped[str | None]


class StateOut(BaseModel):
    """A stage, as answered."""

    model_config = ConfigDict(from_attributes=True)
    customer_id: UUID
    journey_key: str
    version: int
    stage: str | None
    paused: bool
    entered_at: datetime | None
    furthest_stage: str | None


def create_app(database_url: str) -> FastAPI:
    """The app; a session a request."""
    new_session = async_sessionmaker(create_async_engine(sqlalchemy_url(database_url), pool_size=8))
    app = FastAPI()

    async def session() -> AsyncIterator[AsyncSession]:
        async with new_session() as opened:
            yield opened

    async def stages(
        customer_id: UUID, session: Annotated[AsyncSession, Depends(session)]
    ) -> Sequence[CustomerStage]:
        query = select(CustomerStage).where(CustomerStage.customer_id == customer_id)
        found = (await session.scalars(query)).all()
        if not found:
            raise HTTPException(404)
        return found

    app.add_api_route("/customers/{customer_id}", stages, response_model=list[StateOut])
    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(sys.argv[2]),
        port=int(sys.argv[1]),
        loop="uvloop",
        log_level="warning",
        access_log=False,
    )
