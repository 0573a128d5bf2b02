"""News: articles, stories with their updates and sentiment, and the cursor of each entity."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Text,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel

from app.models.columns import instant, json


def _link(table: str) -> Column[Any]:
    name = {"articles": "article_id", "stories": "story_id"}[table]
    link = ForeignKey(f"{table}.id", ondelete="CASCADE")
    return Column(name, BigInteger, link, primary_key=True, autoincrement=False)


def _text_array() -> Column[Any]:
    return Column(ARRAY(Text), nullable=False)


class ArticleRow(SQLModel, table=True):
    """One article, independent of the tracked entities that found it.

    `entities`: the entities that the article itself mentions.
    """

    __tablename__: ClassVar[Any] = "articles"
    __table_args__ = (
        UniqueConstraint("provider", "article_id", name="articles_natural_key"),
        Index("articles_published", "published_at", postgresql_include=["sentiment"]),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    provider: str
    article_id: str
    url: str
    title: str
    summary: str
    source: str
    domain: str
    language: str
    country: str
    published_at: datetime = Field(sa_column=instant())
    sentiment: int | None = None
    categories: list[str] = Field(sa_column=_text_array())
    keywords: list[str] = Field(sa_column=_text_array())
    entities: dict[str, Any] = Field(sa_column=json())
    first_seen_at: datetime = Field(sa_column=instant())
    updated_at: datetime = Field(sa_column=instant())
    run_id: UUID


class ArticleEntityRow(SQLModel, table=True):
    """Link of an article to a tracked entity whose search returned it."""

    __tablename__: ClassVar[Any] = "article_entities"
    __table_args__ = (Index("article_entities_entity", "entity"),)

    article_id: int = Field(sa_column=_link("articles"))
    entity: str = Field(primary_key=True)
    first_seen_at: datetime = Field(sa_column=instant())
    run_id: UUID


class StoryRow(SQLModel, table=True):
    """One story, independent of the tracked entities that found it.

    `told_at`: when the provider last updated it.
    """

    __tablename__: ClassVar[Any] = "stories"
    __table_args__ = (
        UniqueConstraint("provider", "story_uuid", name="stories_natural_key"),
        Index("stories_told", "told_at"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    provider: str
    story_uuid: str
    topic: str
    told_at: datetime = Field(sa_column=instant())
    categories: list[str] = Field(sa_column=_text_array())
    keywords: list[str] = Field(sa_column=_text_array())
    languages: dict[str, Any] = Field(sa_column=json())
    countries: dict[str, Any] = Field(sa_column=json())
    first_seen_at: datetime = Field(sa_column=instant())
    updated_at: datetime = Field(sa_column=instant())
    run_id: UUID


class StoryEntityRow(SQLModel, table=True):
    """Link of a story to a tracked entity whose search returned it."""

    __tablename__: ClassVar[Any] = "story_entities"
    __table_args__ = (Index("story_entities_entity", "entity"),)

    story_id: int = Field(sa_column=_link("stories"))
    entity: str = Field(primary_key=True)
    first_seen_at: datetime = Field(sa_column=instant())
    run_id: UUID


class StoryUpdateRow(SQLModel, table=True):
    """One update of a story."""

    __tablename__: ClassVar[Any] = "story_updates"

    story_id: int = Field(sa_column=_link("stories"))
    update_uuid: str = Field(primary_key=True)
    at: datetime = Field(sa_column=instant())
    headline: str
    text: str
    articles: int | None = None
    run_id: UUID


class StorySentimentRow(SQLModel, table=True):
    """The sentiment of a story at one instant."""

    __tablename__: ClassVar[Any] = "story_sentiment"

    story_id: int = Field(sa_column=_link("stories"))
    at: datetime = Field(sa_column=Column(instant().type, primary_key=True))
    value: float = Field(sa_column=Column(Float, nullable=False))
    run_id: UUID


class NewsCursorRow(SQLModel, table=True):
    """The instant up to which an entity has been read. It only moves forward."""

    __tablename__: ClassVar[Any] = "news_cursors"

    source: str = Field(primary_key=True)
    entity: str = Field(primary_key=True)
    cursor: datetime = Field(sa_column=instant())
    run_id: UUID
