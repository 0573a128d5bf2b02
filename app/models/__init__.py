"""All database tables. Their modules are imported here, so that migrations see each of them."""

from importlib import import_module
from pkgutil import iter_modules

from sqlalchemy import MetaData, Table

tables = MetaData()
"""The tables of this package, without those of own jobs, which SQLModel's metadata has too."""
for _module in iter_modules(__path__, f"{__name__}."):
    for _member in vars(import_module(_module.name)).values():
        _table = getattr(_member, "__table__", None)
        if isinstance(_table, Table):
            _table.to_metadata(tables)
