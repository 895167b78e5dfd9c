"""Formats numbers for people."""

import math


def short(value: float) -> str:
    """Formats a number with at most five digits, right-aligned in seven characters: 0.0123, 12.345, 1234.5, 1.2e-5."""
    if not math.isfinite(value):
        return f"{value:7}"
    if value == 0 or 1e-3 <= abs(value) < 99_999:
        decimals = 4 - min(4, int(math.log10(max(abs(value), 1.0))))
        return f"{value:7.{decimals}f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}".rjust(7)


def hours(seconds: float) -> str:
    """Formats a duration as `h:mm:ss`."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"
