"""The page and the API: users, groups, grants, browser sessions, keys, their log; orders, settings changed at run time,
and what people add to received invoices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# The log takes new rows and nothing else.
BY_HAND = {
    "sqlite": (
        "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit "
        "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
        "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
        "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
    ),
    "postgresql": (
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION events_append_only()",
    ),
}


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("name", name=op.f("uq_api_keys_name")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_keys_sha256")),
    )
    op.create_table(
        "audit",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("ip", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_action", "audit", ["action", "id"], unique=False)
    op.create_index("ix_audit_actor", "audit", ["actor", "id"], unique=False)
    op.create_index("ix_audit_at", "audit", ["at", "id"], unique=False)
    op.create_table(
        "groups",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
        sa.UniqueConstraint("name", name=op.f("uq_groups_name")),
    )
    op.create_table(
        "login_failures",
        sa.Column("ip", sa.String(length=64), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("ip", "login", name=op.f("pk_login_failures")),
    )
    op.create_index("ix_login_failures_last_at", "login_failures", ["last_at"], unique=False)
    op.create_table(
        "orders",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state IN ('done', 'failed')) = (done_at IS NOT NULL)", name=op.f("ck_orders_done")),
        sa.CheckConstraint("state IN ('done', 'failed', 'waiting', 'working')", name=op.f("ck_orders_state")),
        sa.CheckConstraint("state IN ('waiting', 'working') OR payload IS NULL", name=op.f("ck_orders_payload_gone")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
    )
    op.create_index("ix_orders_kind", "orders", ["kind", "id"], unique=False)
    op.create_index(
        "ix_orders_open",
        "orders",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state IN ('waiting', 'working')"),
        postgresql_where=sa.text("state IN ('waiting', 'working')"),
    )
    op.create_table(
        "overrides",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_overrides")),
    )
    op.create_table(
        "users",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("login", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("must_change", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("totp_secret", sa.String(length=64), nullable=True),
        sa.Column("totp_last_step", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_login_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("login = lower(login)", name=op.f("ck_users_login_lower")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("login", name=op.f("uq_users_login")),
    )
    op.create_table(
        "attachments",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("incoming", _KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["incoming"], ["incoming.id"], name=op.f("fk_attachments_incoming")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
    )
    op.create_index("ix_attachments_incoming", "attachments", ["incoming", "id"], unique=False)
    op.create_table(
        "grants",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("user_id", _KEY, nullable=True),
        sa.Column("group_id", _KEY, nullable=True),
        sa.Column("key_id", _KEY, nullable=True),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("handle", sa.Boolean(), nullable=False),
        sa.CheckConstraint("kind = 'incoming' OR folder = ''", name=op.f("ck_grants_folder")),
        sa.CheckConstraint("kind IN ('incoming', 'outgoing')", name=op.f("ck_grants_kind")),
        sa.CheckConstraint(
            "(user_id IS NOT NULL AND group_id IS NULL AND key_id IS NULL) "
            "OR (user_id IS NULL AND group_id IS NOT NULL AND key_id IS NULL) "
            "OR (user_id IS NULL AND group_id IS NULL AND key_id IS NOT NULL)",
            name=op.f("ck_grants_one_holder"),
        ),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_grants_group_id")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_grants_key_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_grants_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
    )
    op.create_index("uq_grants_group_id", "grants", ["group_id", "kind", "folder"], unique=True)
    op.create_index("uq_grants_key_id", "grants", ["key_id", "kind", "folder"], unique=True)
    op.create_index("uq_grants_user_id", "grants", ["user_id", "kind", "folder"], unique=True)
    op.create_table(
        "group_members",
        sa.Column("group_id", _KEY, nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_group_members_group_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_group_members_user_id")),
        sa.PrimaryKeyConstraint("group_id", "user_id", name=op.f("pk_group_members")),
    )
    op.create_index("ix_group_members_user_id", "group_members", ["user_id"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("key_id", _KEY, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("document_id", sa.String(length=36), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_idempotency_key_id")),
        sa.PrimaryKeyConstraint("key_id", "key", name=op.f("pk_idempotency")),
    )
    op.create_index("ix_idempotency_at", "idempotency", ["at"], unique=False)
    op.create_table(
        "invitations",
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_invitations_user_id")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_invitations")),
    )
    op.create_index("ix_invitations_user_id", "invitations", ["user_id"], unique=False)
    op.create_table(
        "markings",
        sa.Column("incoming", _KEY, nullable=False),
        sa.Column("period", sa.String(length=7), nullable=False),
        sa.Column("booked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("booked_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["incoming"], ["incoming.id"], name=op.f("fk_markings_incoming")),
        sa.PrimaryKeyConstraint("incoming", name=op.f("pk_markings")),
    )
    op.create_index("ix_markings_period", "markings", ["period", "incoming"], unique=False)
    op.create_table(
        "reads",
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("incoming", _KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["incoming"], ["incoming.id"], name=op.f("fk_reads_incoming")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_reads_user_id")),
        sa.PrimaryKeyConstraint("user_id", "incoming", name=op.f("pk_reads")),
    )
    op.create_table(
        "remarks",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("incoming", _KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('comment', 'tag')", name=op.f("ck_remarks_kind")),
        sa.ForeignKeyConstraint(["incoming"], ["incoming.id"], name=op.f("fk_remarks_incoming")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_remarks")),
    )
    op.create_index("ix_remarks_incoming", "remarks", ["incoming", "id"], unique=False)
    op.create_index(
        "ix_remarks_text",
        "remarks",
        ["text"],
        unique=False,
        sqlite_where=sa.text("kind = 'tag'"),
        postgresql_where=sa.text("kind = 'tag'"),
    )
    op.create_table(
        "web_sessions",
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ip", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_web_sessions_user_id")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_web_sessions")),
    )
    op.create_index("ix_web_sessions_expires_at", "web_sessions", ["expires_at"], unique=False)
    op.create_index("ix_web_sessions_user_id", "web_sessions", ["user_id"], unique=False)
    op.create_index(
        "ix_incoming_narrow",
        "incoming",
        ["id", "folder", "verdict", "decision", "issue_date", "seller_nip"],
        unique=False,
    )
    for statement in BY_HAND.get(op.get_bind().dialect.name, ()):
        op.execute(statement)
