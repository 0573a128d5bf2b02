"""Values of CSV files that spreadsheets open."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for the start of a formula


def csv_cell(value: object) -> object:
    """Return the value for a CSV file: a text that spreadsheets would read as a formula is quoted.

    Numbers stay numbers, negative ones too.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
