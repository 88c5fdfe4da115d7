"""Lists for people: documents by kind, arrivals by the ERP's own reference."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_documents_kind", "documents", ["invoice_type", "state", "id"])
    op.create_index(
        "ix_arrivals_reference",
        "arrivals",
        ["reference"],
        sqlite_where=sa.text("reference IS NOT NULL"),
        postgresql_where=sa.text("reference IS NOT NULL"),
    )
