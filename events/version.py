"""The version of the program, as others see it: in `User-Agent`, in a `define`, in a base."""

from typing import Final

VERSION: Final = "0.1.0"
