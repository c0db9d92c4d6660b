"""Numbers as people read them: rounded by their error, in percent, with units."""

import math


def decimals_for(error: float) -> int | None:
    """Return to how many decimals a value is worth printing, given its error.

    The error keeps one significant digit, or two when the first is a 1: rounding 0.14 to 0.1 would lose 30 % of it.

    Args:
        error: Standard error, in the unit of the value.

    Returns:
        Number of decimals (negative: tens, hundreds, …); None when the error says nothing (0 or not finite).

    Example:
        >>> decimals_for(0.0312), decimals_for(0.0149), decimals_for(23.0), decimals_for(0.0)
        (2, 3, -1, None)
    """
    if not math.isfinite(error) or error <= 0.0:
        return None
    if f"{error:.1e}"[0] == "1":
        return 1 - int(f"{error:.1e}".split("e")[1])
    digit, exponent = f"{error:.0e}".split("e")
    # 0.096 rounds up to a 1, and is printed as 0.10.
    return (digit == "1") - int(exponent)


def with_error(value: float, error: float, *, scale: float = 1.0) -> str:
    """Print a value and its error, rounded by the error.

    Args:
        value: The value.
        error: Its standard error; NaN when unknown.
        scale: Factor for both, such as 100 for percent.

    Returns:
        Text such as "83.4 ± 0.3"; the value alone with three digits when the error says nothing; "–" for NaN.

    Example:
        >>> with_error(0.8342, 0.0031, scale=100), with_error(0.5, math.nan), with_error(math.nan, math.nan)
        ('83.4 ± 0.3', '0.5', '–')
    """
    value, error = value * scale, error * scale
    if math.isnan(value):
        return "–"
    decimals = decimals_for(error)
    if decimals is None or not math.isfinite(value):
        return significant(value)
    shown = max(decimals, 0)
    return f"{_plain(round(value, decimals), shown)} ± {_plain(round(error, decimals), shown)}"


def significant(value: float, digits: int = 3, *, zeros: bool = False) -> str:
    """Print a number with a few significant digits, powers of ten written out as people write them.

    Args:
        value: The number.
        digits: Significant digits.
        zeros: Whether to print all of the digits even where they are zeros, for columns of measured numbers.

    Returns:
        Text such as "0.834" or "2.1 × 10⁻⁵"; "–" for NaN.

    Example:
        >>> significant(0.83421), significant(2.1e-5), significant(1.0, 2, zeros=True), significant(math.inf)
        ('0.834', '2.1 × 10⁻⁵', '1.0', '∞')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0.0 or 1e-3 <= abs(value) < 1e6:
        plain = f"{value:#.{digits}g}".rstrip(".") if zeros else f"{value:.{digits}g}"
        return minus(plain if abs(value) < 10**digits and "e" not in plain else f"{value:,.0f}")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa and not zeros else mantissa
    return minus(f"{mantissa} × {power_of_ten(int(exponent))}" if mantissa != "1" else power_of_ten(int(exponent)))


def power_of_ten(exponent: int) -> str:
    """Print a power of ten with a superscript.

    Args:
        exponent: The exponent.

    Returns:
        The text.

    Example:
        >>> power_of_ten(-3), power_of_ten(0)
        ('10⁻³', '1')
    """
    raised = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return "1" if exponent == 0 else f"10{raised}"


def percent(share: float) -> str:
    """Print a share as a whole percentage; small shares that are not 0, and large ones that are not 1, keep a decimal.

    Args:
        share: The share, 0 … 1.

    Returns:
        The text.

    Example:
        >>> percent(0.834), percent(0.996), percent(1.0), percent(math.nan)
        ('83%', '99.6%', '100%', '–')
    """
    if math.isnan(share):
        return "–"
    whole = f"{share * 100:.0f}"
    return (
        f"{share * 100:.1f}%"
        if (whole, share) in {("0", share), ("100", share)} and share not in {0, 1}
        else whole + "%"
    )


def duration(seconds: float) -> str:
    """Print a duration.

    Args:
        seconds: The duration in seconds.

    Returns:
        The text.

    Example:
        >>> duration(4.2), duration(131.0), duration(7260.0)
        ('4.2 s', '2 min 11 s', '2 h 1 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def minus(text: str) -> str:
    """Write negative numbers with a minus sign instead of a hyphen.

    Args:
        text: A printed number.

    Returns:
        The text.

    Example:
        >>> minus("-0.5")
        '−0.5'
    """
    return text.replace("-", "−")


def _plain(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return minus(text if float(text) != 0.0 else text.lstrip("-"))
