"""How Alembic runs here: on the connection that `engine.database.migrate` hands over, in its transaction."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table="migrations", version_table_schema="public")
context.run_migrations()
