r"""Ready-made rules for text from chats, forums, mail and web pages: chosen in a recipe by their names.

    drop_spans: {rules: [out_of_character, email_signature]}
    drop_lines: {rules: [quoted_reply, reply_header, share_buttons]}

They would rather miss some than take what somebody wrote: a rule for lines wants the whole line to be what it looks
for. Lines are taken one at a time; spans may go over several. All run in time linear in the text: no two repeats that
can match the same characters follow one another, and a run of blanks is entered at its beginning only.

Sources of the forms: RFC 3676, section 4.3 (the signature delimiter "-- ") and 4.5 (quoting by ">"); what Gmail, Apple
Mail and Outlook write above a quoted reply; the wording of consent banners and page furniture as it is met in the wild.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kinds = Literal["lines", "spans"]


class Ready(NamedTuple):
    """A ready-made rule: `lines` for lines taken by themselves, `spans` for pieces of the text."""

    kind: Kinds
    about: str
    pattern: str
    flags: tuple[Literal["ignorecase", "multiline"], ...] = ()
    needs: tuple[str, ...] = ()  # in small letters: what matches holds one of these

    @property
    def stage(self) -> str:
        """The stage that it was made for."""
        return "drop_lines" if self.kind == "lines" else "drop_spans"


_B = r"[^\S\n]"  # a blank within a line
_EDGE = r"[^\w\n]*"  # what may stand around a phrase: bullets, arrows, icons


def _only(phrase: str) -> str:
    """A line of this phrase, or of several, and nothing else but marks."""
    return rf"^{_EDGE}(?:{phrase})(?:[^\w\n]+(?:{phrase}))*{_EDGE}$"


_CLOSED = r"[^()\n=<>{}|\\]*(?:\([^()\n]*\)[^()\n=<>{}|\\]*)*"  # text in brackets, with brackets one deep in it
_NETWORK = r"facebook|twitter|x|linkedin|pinterest|reddit|whats ?app|tumblr|instagram|telegram|e-?mail|youtube|tiktok"
_PAGE = (
    r"skip (?:to|over) (?:main |the )?(?:content|navigation)|(?:back|return|scroll) to (?:the )?top"
    r"|(?:read|show|load|view|see) (?:more|all)|continue reading|leave a (?:comment|reply)|log ?in to (?:comment|reply)"
    r"|(?:print|e-?mail|bookmark) this (?:page|article|post)|related (?:articles|posts|stories|links)"
    r"|(?:privacy|cookie|terms)(?: (?:and|&) (?:privacy|cookies|conditions))? (?:policy|statement|notice)"
    r"|terms (?:of (?:use|service)|(?:and|&) conditions)|site ?map|contact us|about us"
    r"|(?:previous|next) (?:page|post|article)|toggle navigation|main menu|powered by wordpress|advertisements?"
)
_PAGE_WORDS = (
    *("to content", "to main content", "to the content", "navigation", "to top", "to the top", " more", " all"),
    *("continue reading", "leave a", "log in to", "login to", "this page", "this article", "this post", "related "),
    *("privacy", "cookie", "terms", "sitemap", "site map", "contact us", "about us", "previous ", "next "),
    *("main menu", "powered by", "advertisement"),
)
_PURPOSE = (
    r"to (?:improve|ensure|give|provide|personali[sz]e|analy[sz]e|offer|make|enhance|help|store|track|understand)"
    r"|and (?:other|similar)|on (?:this|our)|for (?:analytics|advertising|statistics)"
)

READY: dict[str, Ready] = {
    "out_of_character": Ready(
        "spans",
        "Remarks out of character in role play: `(OOC: …)`, `[OOC …]`, `((…))`, each within a line, with the blanks "
        "before it, and `[OOC] … [/OOC]` of up to 2,000 characters, over lines too. Double brackets count after a "
        "blank or at a line's start, with a word of two letters in them and nothing that looks like code.",
        rf"(?:^|(?<!{_B}){_B}++)(?:\(\((?=[^()\n]*\p{{L}}\p{{L}}){_CLOSED}\)\)(?![\w(\[.:*/+-]\S)"
        r"|\[OOC\](?:[^\[]|\[(?!/?OOC\b)){0,2000}+\[/OOC\]|\(OOC\)(?:[^(]|\((?!/?OOC\b)){0,2000}+\(/OOC\)"
        rf"|\({_B}?OOC\b[^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)|\[{_B}?OOC\b[^\[\]\n]*\])",
        ("ignorecase", "multiline"),
        ("((", "ooc"),
    ),
    "out_of_character_line": Ready(
        "lines",
        "Lines that begin with `OOC:` (or `OOC -`).",
        rf"^{_B}*OOC{_B}?(?::|[-–—]{_B})",
        ("ignorecase",),
        ("ooc",),
    ),
    "email_signature": Ready(
        "spans",
        "The first line of `-- ` (RFC 3676) and all that follows, if the text ends there: up to eight lines of "
        "at most 100 characters, none blank.",
        r"\A(?:(?!-- ?$)[^\n]*+\n)*+\K-- ?(?:\n[^\n]{1,100}){1,8}\n*\Z",
        ("multiline",),
        ("--",),
    ),
    "quoted_reply": Ready(
        "lines",
        "Lines quoted with `>`, of any depth; not `>>> `, Python's prompt. For mail: notes of Markdown begin alike.",
        r"^ ?>(?:[^>]|$|>(?:[^>]|$|>[^ ]))",
    ),
    "reply_header": Ready(
        "lines",
        "What mail programs write above a quoted message: `On 3 May 2021, at 10:15, A. Body <a@b.org> wrote:`, "
        "`-----Original Message-----`, `Begin forwarded message:`. The first form needs an address, a year or a "
        "time; in German (`Am 3. Mai 2021 um 10:15 schrieb A. Body:`) an address or a time.",
        rf"^[> ]*(?:On\b(?=.*(?:@|\b(?:19|20)\d\d\b|\d:\d\d)).{{5,300}}\bwrote:{_B}*$"
        rf"|Am\b(?=.*(?:@|\d:\d\d)).{{5,200}}\bschrieb\b.{{1,200}}:{_B}*$"
        rf"|-{{2,}} ?(?:original|forwarded) message ?-{{2,}}{_B}*$|begin forwarded message:{_B}*$)",
        ("ignorecase",),
        ("wrote:", "schrieb", "message"),
    ),
    "cookie_notice": Ready(
        "lines",
        "Consent banners: that a site uses cookies, and to what end; buttons such as `Accept all cookies`.",
        r"\b(?:we|(?:this|our) (?:web)?site)(?: and our partners)?(?: also)? uses? "
        rf"(?:[\w-]+ ){{0,3}}cookies(?: (?:{_PURPOSE})\b"
        r"|[.,;:!]? by (?:continuing|using|browsing|clicking)\b.{0,120}\b(?:agree|consent|accept)\b)"
        r"|\bby (?:continuing|using|browsing|clicking)\b.{0,120}\b(?:agree|consent|accept)\b.{0,60}\bcookies\b"
        r"|^[^\w\n]*(?:accept|reject|allow|manage|decline)(?: all)? cookies[^\w\n]*$"
        r"|^[^\w\n]*cookies? (?:policy|settings|preferences|notice|consent)[^\w\n]*$",
        ("ignorecase",),
        ("cookie",),
    ),
    "newsletter": Ready(
        "lines",
        "Invitations to a newsletter or channel at the start of a line, and the way out of it.",
        rf"^{_EDGE}(?:please )?(?:sign up|subscribe|join)(?: now| today)? (?:for|to) (?:our|the|my)"
        r"(?: [\w'’-]+){0,4}? (?:newsletters?|mailing list|channel|feed|e-?mail updates|email list)\b"
        rf"|^{_EDGE}enter your e-?mail (?:address )?(?:below )?to (?:subscribe|sign up|receive)\b"
        rf"|^{_EDGE}(?:click here to )?(?:unsubscribe|subscribe now|sign up now)(?: here)?{_EDGE}$"
        r"|\byou(?: are|['’]re) receiving this e-?mail because\b",
        ("ignorecase",),
        ("subscribe", "sign up", "join", "receiving this e"),
    ),
    "share_buttons": Ready(
        "lines",
        "Rows of buttons: `Share this`, `Share on Facebook | Tweet | Pin it`, `Follow us on Instagram`.",
        _only(
            rf"share(?: (?:this|it|now|article|post|page|story|with friends))*(?: (?:on|via|by|to) (?:{_NETWORK}))?"
            rf"|tweet(?: this)?|pin it|(?:follow|like|find|join) us on (?:{_NETWORK})"
            rf"|click to share on (?:{_NETWORK}) \(opens in new window\)"
        ),
        ("ignorecase",),
        ("share", "tweet", "pin it", "us on"),
    ),
    "rights_reserved": Ready(
        "lines",
        "Copyright lines of pages: ones that end with `All rights reserved`, or hold no more than a sign, a year and a "
        "name. Comments of source code (`# Copyright …`) stay.",
        rf"^{_B}*(?:(?:©|\(c\)|copyright)[^\n]{{0,160}}|\w[^\n.!?]{{0,80}}[.,|·–-]{_B}*)?"
        rf"\ball rights reserved\b{_EDGE}$"
        rf"|^{_B}*(?:©|\(c\)|copyright)(?:{_B}*(?:©|\(c\)))?{_B}*\d{{4}}\b[^\n]{{0,80}}$",
        ("ignorecase",),
        ("all rights reserved", "copyright", "©", "(c)"),
    ),
    "page_furniture": Ready(
        "lines",
        "Lines of nothing but a page's own words: `Skip to content`, `Back to top`, `Read more`, "
        "`Privacy policy | Terms of use`.",
        _only(_PAGE),
        ("ignorecase",),
        _PAGE_WORDS,
    ),
}
