"""Certificates with their sealed keys, and requests for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "credentials",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("purpose", sa.String(length=8), nullable=False),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=True),
        sa.Column("request", sa.LargeBinary(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("quota", sa.Integer(), nullable=True),
        sa.Column("reference", sa.String(length=64), nullable=True),
        sa.Column("certificate", sa.Text(), nullable=True),
        sa.Column("serial", sa.String(length=40), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("issuer", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("proven_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_step_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("purpose IN ('auth', 'offline')", name=op.f("ck_credentials_purpose")),
        sa.CheckConstraint("source IN ('enrolment', 'import', 'sandbox')", name=op.f("ck_credentials_source")),
        sa.CheckConstraint(
            "state IN ('active', 'pending', 'rejected', 'replaced', 'revoked')", name=op.f("ck_credentials_state")
        ),
        sa.CheckConstraint(
            "state NOT IN ('pending', 'active') OR sealed_key IS NOT NULL", name=op.f("ck_credentials_key_kept")
        ),
        sa.CheckConstraint(
            "state NOT IN ('revoked', 'rejected') OR sealed_key IS NULL", name=op.f("ck_credentials_key_gone")
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'rejected') OR certificate IS NOT NULL", name=op.f("ck_credentials_certificate")
        ),
        sa.CheckConstraint("reference IS NULL OR asked_at IS NOT NULL", name=op.f("ck_credentials_asked")),
        sa.CheckConstraint("(asked_at IS NULL) = (quota IS NULL)", name=op.f("ck_credentials_quota")),
        sa.CheckConstraint("(certificate IS NULL) = (fingerprint IS NULL)", name=op.f("ck_credentials_fingerprint")),
        sa.CheckConstraint("(certificate IS NULL) = (valid_to IS NULL)", name=op.f("ck_credentials_valid_to")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
        sa.UniqueConstraint("name", name=op.f("uq_credentials_name")),
    )
    for state in ("active", "pending"):
        op.create_index(
            f"uq_credentials_{state}",
            "credentials",
            ["purpose"],
            unique=True,
            sqlite_where=sa.text(f"state = '{state}'"),
            postgresql_where=sa.text(f"state = '{state}'"),
        )
