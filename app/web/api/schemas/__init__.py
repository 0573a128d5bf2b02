"""Pydantic models of the API's requests and responses, and of its OpenAPI schemas."""
