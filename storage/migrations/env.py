"""What Alembic asks for: run the steps on the connection that `Database.migrate` hands over, in its transaction."""

from alembic import context

from storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=False,
    transactional_ddl=False,
)
context.run_migrations()
