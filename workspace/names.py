"""Did you mean: the known name that a misspelt one is nearest to."""

import difflib
from collections.abc import Iterable, Iterator

FEW = 300


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known word that was probably meant, or None. Cost: looks at every known word."""
    names = sorted(known)
    folded = {_folded(name): name for name in names}
    if _folded(word) in folded:
        return folded[_folded(word)]
    found = difflib.get_close_matches(word, names, 1, likeness)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return a mend that proposes the nearest known word, or ``otherwise``."""
    near = nearest(word, known)
    return f'did you mean "{near}"?' if near else otherwise


class Names:
    """Names that are asked for often: thousands of them against thousands of questions.

    ``slip`` finds a name that differs by one letter (too many, missing, another, two swapped) in
    time that does not grow with the number of names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.all = frozenset(names)
        self._slips: dict[str, str] | None = None

    def slip(self, word: str) -> str | None:
        """Return a name that ``word`` is by one slip of the finger; None when there is none."""
        if self._slips is None:
            self._slips = {}
            for name in sorted(self.all):
                for shorter in _shortened(name):
                    self._slips.setdefault(shorter, name)
        for shorter in _shortened(word):
            near = self._slips.get(shorter)
            if near is not None and near != word:
                return near
        return None

    def mend(self, word: str, top: str) -> str:
        """Return what to do about a word that is no name of the top key ``top``."""
        near = self.slip(word) if len(self.all) > FEW else nearest(word, self.all)
        if near:
            return f'did you mean "{near}"?'
        if not self.all:
            return f"define it under {top}"
        return f"{top} are: {', '.join(sorted(self.all)[:10])}{', ...' * (len(self.all) > 10)}"


def _folded(word: str) -> str:
    return word.replace("_", "").replace("-", "").replace(" ", "").lower()


def _shortened(word: str) -> Iterator[str]:
    """Yield the word and all that is left of it without one letter."""
    yield word
    for place in range(len(word)):
        yield word[:place] + word[place + 1 :]
