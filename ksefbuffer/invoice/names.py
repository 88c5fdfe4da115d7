"""Names of firms and numbers of invoices, folded so that two spellings of one thing are equal.

Source: the notes of the list of checks (company-name folding), FA3-FIELDS §3 (folding of texts).
"""

from __future__ import annotations

import re
import unicodedata
from difflib import SequenceMatcher

from .folding import fold

MAX_COMPARED = 200  # Letters of a name that are compared; FA(3) allows 512, and comparing is quadratic.

# Longer forms first, since some contain others. Written as folded text is: lower-case, ASCII, single spaces.
_LEGAL_FORMS = re.compile(
    r"\b(?:spolka z ograniczona odpowiedzialnoscia|spolka z o ?o|sp ?z ?o ?o|prosta spolka akcyjna|spolka akcyjna"
    r"|spolka komandytowo akcyjna|spolka komandytowa|spolka jawna|spolka partnerska|spolka cywilna"
    r"|w (?:likwidacji|restrukturyzacji|upadlosci)|p s a|s k a|sp k|sp j|sp p|s a|s c|ska|psa|sa|sc|spk|spj)\b"
)
_DASHES = re.compile(r"[\u2010-\u2015\u2212]")
_HIDDEN = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def company_words(name: str) -> tuple[str, ...]:
    """The words of a firm's name without its legal form; all of them when nothing else is left."""
    folded = fold(name[:MAX_COMPARED])
    return tuple(_LEGAL_FORMS.sub(" ", folded).split() or folded.split())


def name_similarity(one: str, other: str) -> int:
    """How alike two firms' names are, 0 to 100, whatever the order of words, legal form, case, quotes, diacritics.

    100 as well when one has all the words of the other: "Dąb sp. z o.o. Sklep nr 7" is Dąb.
    """
    first, second = company_words(one), company_words(other)
    if not first or not second:
        return 0
    shorter, longer = sorted((set(first), set(second)), key=len)
    if shorter <= longer and sum(map(len, shorter)) >= 3:
        return 100
    common = 200 * len(shorter & longer) // (len(shorter) + len(longer))
    letters = SequenceMatcher(None, " ".join(sorted(first)), " ".join(sorted(second)), autojunk=False).ratio()
    return max(common, int(100 * letters))


def number_key(number: str) -> str:
    """One spelling for one invoice number: NFKC, case folded, dashes alike, without any spaces or hidden signs.

    Slashes, dots and leading zeros stay: they tell numbers apart.
    """
    text = unicodedata.normalize("NFKC", _HIDDEN.sub("", number)).casefold()
    return "".join(_DASHES.sub("-", text).split())
