"""Alembic's environment: runs on the engine it is handed by ``ksefbuffer.queue.schema``."""

from __future__ import annotations

from alembic import context

from ksefbuffer.queue import notice_models, web_models, webhook_models
from ksefbuffer.queue.models import metadata

assert all(part.metadata is metadata for part in (notice_models, web_models, webhook_models))

with context.config.attributes["engine"].connect() as connection:
    context.configure(
        connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite"
    )
    with context.begin_transaction():
        context.run_migrations()
