"""Messages of other libraries' exceptions, cut to one line."""


def first_line(error: Exception, *, max_length: int | None = 200) -> str:
    """Returns the type of an exception and the first line of its message, of which at most `max_length` characters."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:max_length]}"
