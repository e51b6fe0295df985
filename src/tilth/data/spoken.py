"""Documents that are conversations: their text is what their messages say, or they have no messages any more.

    says_its_messages(document)        the text is that of `meta.messages`, but for white space
    other_text(document, text, by)     the document with another text, and without messages that say something else
    same_letters(text, other)          equal but for white space

Whoever gives a document another text does it by `other_text`: messages that stayed as they were would keep what was
masked or cut, and would be trained on.
"""

from __future__ import annotations

from dataclasses import replace

from tilth.data.document import Document
from tilth.data.sources.messages import rendered

WITHDRAWN = "messages_withdrawn"
"""In `meta`, in place of messages: the stage that changed the text in a way that they cannot follow."""
OF_MESSAGES = ("messages", "tools")
"""In `meta`: what a conversation is trained by."""


def says_its_messages(document: Document) -> bool:
    """Whether a document has messages, and its text is theirs."""
    messages = document.meta.get("messages")
    return messages is not None and same_letters(rendered(messages), document.text)


def other_text(document: Document, text: str, by: str) -> Document:
    """The document with this text. Where its messages say another, they and their tools go, and `meta` names `by`."""
    left = replace(document, text=text)
    if "messages" not in document.meta or says_its_messages(left):
        return left
    kept = {key: value for key, value in document.meta.items() if key not in OF_MESSAGES}
    return replace(left, meta={**kept, WITHDRAWN: by})


def same_letters(text: str, other: str) -> bool:
    """Whether two texts differ in nothing but white space."""
    return text == other or "".join(text.split()) == "".join(other.split())
