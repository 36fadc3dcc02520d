"""Which variant of its price a charge was reckoned by, and no price below zero.

Both steps touch the tables' descriptions alone: the column's default is kept once for all rows, and the check is not
run over prices already there, which nobody could change anyway (`farebox verify` names them).
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BELOW_ZERO = """'$.** ? (@.type() == "number" && @ < 0)'"""


def upgrade() -> None:
    op.execute("ALTER TABLE charges ADD COLUMN variant text NOT NULL DEFAULT ''")
    op.execute(
        "ALTER TABLE prices ADD CONSTRAINT prices_never_below_zero "
        f"CHECK (NOT jsonb_path_exists(doc, {_BELOW_ZERO})) NOT VALID"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE prices DROP CONSTRAINT prices_never_below_zero")
    op.execute("ALTER TABLE charges DROP COLUMN variant")
