"""The HTTP API of collections: what an organisation may ask for and change with its token."""
