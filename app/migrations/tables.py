"""All database tables, for Alembic: the modules of `app.models` are imported here."""

from importlib import import_module
from pkgutil import iter_modules

from sqlalchemy import MetaData, Table

from app import models

tables = MetaData()
"""The tables of `app.models`, without those of own jobs, which SQLModel's metadata has too."""
for _module in iter_modules(models.__path__, f"{models.__name__}."):
    for _member in vars(import_module(_module.name)).values():
        _table = getattr(_member, "__table__", None)
        if isinstance(_table, Table):
            _table.to_metadata(tables)
