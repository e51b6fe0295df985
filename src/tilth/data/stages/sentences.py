r"""Where sentences begin: a small splitter by rules, for text that is cut, in English first.

    sentence_starts(text) -> [position, …]      where each sentence but the first begins

A sentence ends with one of . ! ? … (with quotes and brackets that close after it) when white space follows and then
what a sentence can begin with: a capital, a letter of a script without capitals, a number, an opening quote or bracket.
Full stops of Chinese and Japanese need no white space. A blank line ends a sentence, whatever stands before it; a
single line end does not, because lines are often wrapped.

A full stop does not end one after an abbreviation that goes on (`Dr.`, `e.g.`, `No. 7`), an initial (`J. Smith`) or the
number of a list (`1. First`). After one that may end a sentence as well (`U.S.`, `etc.`, `p.m.`, `Inc.`) it does when
the next word is one that often begins a sentence and is no name (`The`, `He`, `In`). In doubt there is no border: text
that is cut in fewer places is cut well.

A position follows the white space before the sentence, or the line end, so that indentation stays with its line.
"""

from __future__ import annotations

import regex  # type: ignore[import-untyped]


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


_TITLES = _words(
    "Mr Mrs Ms Messrs Mme Mlle Dr Drs Prof Rev Hon Pres Gov Sen Rep Gen Col Maj Capt Cmdr Lt Sgt Cpl Pvt Adm Fr Mt"
)
_GOES_ON = _words("e.g i.e eg ie vs cf viz ca approx incl esp resp")
_BEFORE_NUMBERS = _words(  # or before a letter or a Roman number
    "no nos vol vols p pp par pars ch chap chs sec secs fig figs eq eqs ref refs tab app art v vv bk pt"
)
_MAY_END = _words(  # as often as not: the next word decides
    "etc al inc ltd co corp bros llc plc jr sr esq phd ph.d m.d b.a m.a d.c a.m p.m am pm ad bc a.d b.c st ave blvd rd "
    "ed eds trans op cit ibid dept est jan feb mar apr jun jul aug sept sep oct nov dec mon tue wed thu fri sat sun"
)
_STARTERS = _words(
    "The A An This That These Those It Its He She They We You His Her Their Our My Your I There Here In On At By For "
    "From With Without After Before When While If Although Though Because Since As And But Or So Yet However Moreover "
    "Therefore Then Thus Also What Who Why How Where Which All Some Many Most Each Every One Two No Not Such Another "
    "Other Both Either Neither Once Until During Under Over Between Meanwhile Later Today"
)

_CLOSERS = r"""["'’”»)\]}*_]"""
_OPENERS = r"""["'‘’“”„«¿¡(\[{*_#-]"""
_STOPS = "[.!?…‼⁇⁈⁉؟۔।॥։።។]"
# Each run of stops is entered at its beginning only, and nothing is given back: linear in the text.
_END = regex.compile(
    rf"(?<!{_STOPS})(?P<stop>{_STOPS}++){_CLOSERS}*+(?P<space>\s++)(?={_OPENERS}{{0,4}}+[\p{{Lu}}\p{{Lt}}\p{{Lo}}\p{{N}}])"
    r"|(?<![。！？｡])[。！？｡]++[」』）］”’》】]*+\s*+"
    r"|\n\s*\n"
)
_LAST_WORD = regex.compile(r"(?<![\p{L}\p{N}.’'])(?:\p{L}+(?:\.\p{L}+)*|\p{N}+(?:\.\p{N}+)*)$")
_NEXT_WORD = regex.compile(rf"{_OPENERS}{{0,4}}+((?:\p{{L}}{{1,20}}|\p{{N}})?)")
_NUMBER = regex.compile(r"\p{N}|[IVXLC]+|\p{Lu}")
_INITIALS = regex.compile(r"\p{Lu}(?:\.\p{Lu})+")
_REACH = 24  # characters that are looked at before a stop: more than any abbreviation has


def sentence_starts(text: str) -> list[int]:
    """The positions at which a sentence begins, in order, without 0 and the text's end."""
    starts = []
    for match in _END.finditer(text):
        if match.end() < len(text) and not (match["stop"] == "." and _goes_on(text, match)):
            line = text.rfind("\n", match.start(), match.end()) + 1
            starts.append(line or match.end())
    return starts


def _goes_on(text: str, match: regex.Match[str]) -> bool:
    """Whether the sentence goes on after a full stop: that of an abbreviation, an initial or a list's number."""
    stop = match.start("stop")
    if match.start("space") > stop + 1 or match["space"].count("\n") > 1:  # a closed quote, or a blank line
        return False
    word = _LAST_WORD.search(text[max(0, stop - _REACH) : stop])
    if word is None:
        return False
    if word[0][0].isnumeric():
        before = text[max(0, stop - _REACH) : stop - len(word[0])]
        return not before.rpartition("\n")[2].strip() and ("\n" in before or stop <= _REACH)
    return _abbreviates(word[0], _NEXT_WORD.match(text, match.end())[1])


def _abbreviates(word: str, following: str) -> bool:
    """Whether a word and its full stop are an abbreviation in midst of a sentence."""
    plain = word.lower()
    if word in _TITLES or plain in _GOES_ON:
        return True
    if plain in _BEFORE_NUMBERS and _NUMBER.fullmatch(following):
        return True
    initial = len(word) == 1 and word.isupper()
    return (initial or plain in _MAY_END or bool(_INITIALS.fullmatch(word))) and following not in _STARTERS
