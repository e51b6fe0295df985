"""What is private is found, what only looks like it is not, and a masked text stays as it is."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilth.core.config import parse
from tilth.core.errors import RecipeError
from tilth.data.document import Document
from tilth.data.stages.patterns import TimedOptions
from tilth.data.stages.pii import PII_STAGES, SORTS, PiiOptions, find, pii
from tilth.data.stages.pii_domains import COMMON, GENERIC
from tilth.data.stages.pii_numbers import is_card, is_iban
from tilth.data.stages.pii_view import View, look

ALL = PiiOptions()
KEY36 = "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7j"
HEX64 = "9f8e7d6c5b4a39281706f5e4d3c2b1a0" * 2
LETTERS34 = "QwhZrTkpLmNbVcXsdFgHjKaPyoUiEzReTq"


def masked(text: str, **options: object) -> str | None:
    return pii(text, parse(PiiOptions, options)).text


POSITIVES = {
    "email": [
        "jane.doe@mail.co.uk", "a@b.com", "j+list@sub-domain.gmail.com", "o_1%x@host.museum", "rené@mairie.fr",
        "JANE@HOST.ORG", "O'Brien@firma.de", "d'arcy.o'neill@mail.co.uk", "Á.D'Óro@firma.de",
        "jürgen@müller.de", "x@ÉCOLE.example.fr", "ada@notes.wiki", "ada@shop.top",
        "x@foo.photography", "x@foo.consulting", "zac@hypothesis.works", "JANE@STUDIO.VENTURES", "x@foo.xn--p1ai",
        "x@xn--80a1acny.xn--p1ai", "иван@почта.рф", "info@пошта.укр", "info@例子.中国", "me@mail.yandex.рус",
        "joe@company.broker", "joe@company.kosher", "joe@cool.rest", "bob@firm.llp", "user@mail.barclays",
        "anna@haus.audi",
        "anna.k%40gmx.de", "anna+x%40gmx.de", "a%2Bb%40gmx.de", "anna&#64;gmx.de", "anna&#x40;gmx.de",
        "anna&#X40;gmx.de", "anna＠gmx.de",
        "άννα@δοκιμή.ελ",
    ],
    "ip": [
        "93.184.216.34", "142.250.72.14", "51.1.1.1", "223.255.255.254", "2a00:1450:4001:831::200e",
        "2606:2800:220:1:248:1893:25c8:1946", "2001:4860::8888", "::ffff:93.184.216.34", "::FFFF:93.184.216.34",
        "0:0:0:0:0:ffff:93.184.216.34", "64:ff9b::93.184.216.34",
    ],
    "phone": [
        "+49 30 901820", "+1 650-253-0000", "+1 (650) 253-0000", "+33 1 42 68 53 00", "+442079460958", "(650) 253-0000",
        "650-253-0000", "650.253.0000", "1-650-253-0000",
    ],
    "card": [
        "4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "3782 822463 10005",
        "6011111111111117", "3530111333300000", "30569309025904", "2223003122003222", "6200000000000005",
        "2200000000000004", "2204 9999 9999 9991",
        "4111\xa01111\xa01111\xa01111", "3782\xa0822463\xa010005",
    ],
    "iban": ["GB82WEST12345698765432", "GB82 WEST 1234 5698 7654 32", "DE89 3704 0044 0532 0130 00",
             "NO93 8601 1117 947", "MT84MALT011000012345MTLCAST001S", "BE68-5390-0754-7034",
             "gb82west12345698765432", "de89 3704 0044 0532 0130 00"],
    "key": [
        "AKIAIOSFODNN7ABCDEFG", f"ghp_{KEY36}", f"github_pat_{KEY36}{KEY36}", f"hf_{KEY36}"[:37], f"npm_{KEY36}",
        f"xoxb-123456789012-{KEY36}", f"AIza{KEY36[:35]}", f"sk-proj-{KEY36}", f"sk-{KEY36}{KEY36[:12]}",
        f"sk_live_{KEY36[:24]}", f"SG.{KEY36[:22]}.{KEY36}{KEY36[:7]}", f"glpat-{KEY36[:20]}",
        f"eyJ{KEY36}.eyJ{KEY36}.{KEY36}", f"hooks.slack.com/services/T0AB12CD3/B0AB12CD3/{KEY36[:24]}", f"ya29.{KEY36}",
        f"hf_{LETTERS34}", f"ghp_{LETTERS34}Ab", f"glpat-{LETTERS34[:20]}", "AKIAQWHZRTKPLMNBVCXS",
        f"npm_{LETTERS34}Ab", f"xoxb-123456789012-{LETTERS34[:24]}", f"AIza{LETTERS34}A", f"whsec_{LETTERS34}",
        f"gsk_{KEY36}{KEY36[:16]}", f"gsk_{LETTERS34}{LETTERS34[:18]}", f"xai-{KEY36}{KEY36}{KEY36[:8]}",
        f"dckr_pat_{KEY36[:27]}", f"dckr_pat_{LETTERS34[:27]}",
        f"dop_v1_{HEX64}", f"doo_v1_{HEX64}", f"shpat_{HEX64[:32]}", f"shpss_{HEX64[:32]}",
        f"EAAC{KEY36}{KEY36}{KEY36}",
        f"hvs.CAESI{KEY36}{KEY36}", f"hvs.{KEY36[:24]}", f"123456789:AA{KEY36[:33]}",
        f"6123456789:AA{KEY36[:16]}-_{KEY36[:15]}",
        f"MTIzNDU2Nzg5MDEyMzQ1Njc4.Gx_-a1.{KEY36}", f"OTk5NzY1NDMyMTA5ODc2NTQz.X9abCd.{KEY36[:27]}",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("sort", "private"), [(sort, private) for sort in POSITIVES for private in POSITIVES[sort]])
@pytest.mark.parametrize(
    "frame", ["{}", "Write to {}, please.", "({})", '"{}"\n', "see: {}\nand go", "ä {} 漢字", "{};{}"]
)
def test_what_is_private_is_found_whole(sort: str, private: str, frame: str) -> None:
    mask = f"[{sort.upper()}]"
    assert masked(frame.replace("{}", private)) == frame.replace("{}", mask)


NEGATIVES = [
    # e-mail
    "user@example.com", "me@mail.example.org", "x@localhost.localdomain.test", "git@github.com:owner/name",
    "@decorator", "x@self.weight", "a @ b.com", "@b.com", "a@b", "numpy@1.26.4", "a..b@host.com", "name.@host.com",
    "patch@module.py", "wikitext @-@ hyphens", "a@b.com-", "a@b.c0m", "user@host.invalid",
    "joe'@host.com", "'@host.com", "a@größe", "x@×y.de", "a@b.T", "x@self.top", "D@L.conjugate().T", "x@layer.weight",
    "q@keys.mean(0)", "grad@self.kernels", "hidden@states.transposed()", "user@host:path", "user@server.cluster:/srv",
    "getty@tty1.service", "logo@icon.webp", "logo@2x.webp", "\\n@pytest.fixture", "\\hyper@anchor.start", "pkg@1.2.3",
    "pkg@1.2.3.com",
    "root@node.localdomain", "Object@module.Class", "иван@почта.Она", "a@xn--p1ai", "foo@bar.spammed = 1",
    "@app.route", "feats@proj.coef", "attn@value.detach", "scores@values.transposed", "np.dot(alpha@beta.flatten)",
    "lodash@latest.tarball", "icon@small.avif", "font@bold.woff", "user@foo.path", "home-lukas@crypt.swap",
    "x%40self.weight", "pkg%401.2.3", "printf('%s%40s.is')", "https://medium.com/%40joe.me", "logo%402x.png",
    "%40gmx.de", "user%40example.com", "a&#64;b", "＠gmx.de",
    # internet addresses
    "1.2.3.4", "8.8.8.8", "10.0.0.1", "192.168.1.10", "172.16.5.4", "127.0.0.1", "169.254.1.1", "100.64.1.1",
    "192.0.2.17", "198.51.100.7", "203.0.113.9", "224.0.0.251", "255.255.255.0", "0.0.0.0", "version 10.33.17.142",
    "v120.33.17.142", "pkg==12.33.17.142", "pkg-12.33.17.142", "12.33.17.142-beta", "1.3.6.1.4.1.311", "2.5.29.17",
    "12.33.17.256", "012.33.17.14", "12.33.17.142.5", "4.4.63.30", "119.0.6045.123", "x12.33.17.142", "120.33.17.0",
    "142.17.33.12.in-addr.arpa", "2001:db8::1", "3fff::1", "fe80::1", "::1", "fd00::17", "12:34:56", "std::vector",
    "a::b", "dead::beef", "00:1a:2b:3c:4d:5e", "2001::/32", "x[1::2]", "2001:db8", "§ 12.33.17.142",
    # telephone
    "2012-2013", "2024-01-15", "15.01.2024 10:33", "555-0123", "650-555-0123", "+1 650-555-0123", "978-3-16-148410-0",
    "ISBN 0-306-40615-2", "1234567890", "x = +1234567.5", "+12.3456789", "3.14159265358979", "1e+4930901820",
    "a+4930901820", "010 020 030 040", "01 23 45 67 89", "order 650-253-00001", "(123) 456-7890", "123-45-6789",
    "192-168-1000", "0x6502530000", "650-253-0000-17", "100 200 3000", "tel 12", "1.650.253", "+49 30",
    "Last call: 2024-01-02 10:15:00", "call: 01/02/2024 10:15:22", "mobile 2023-10-11 12:30", "phone: 2024-01-02",
    "contact no: 2024-01-02 10:15", "call 31.12.2024", "call: 2024-01-02T10:15:00Z", "call: 2024/01/02 10.15",
    "sms 20240102 10:15", "mobile: 24-01-02 10:15", "fax 2024 01 02 10:15", "mobile 0.12345678", "call (2024-01-02)",
    # payment cards
    "4111111111111112", "4111 1111 1111 1112", "4111 1111-1111 1111", "41111111111111111111", "1234567812345670",
    "x4111111111111111", "4111111111111111f", "0.4111111111111111", "1637712000000000", "00000000000000000",
    "4111 1111 1111 1111 1111", "+4111111111111111", "4111111111111111.5", "12-4111111111111111-3",
    "4111-1111-1111-1111-123", "4111 1111 1111 1112 123", "0,4111111111111111", "17,4111111111111111;",
    "[1,4111111111111112,3]", "4111\xa01111 1111\xa01111",
    # bank accounts
    "GB82WEST12345698765433", "GB82 WEST 1234 5698 7654", "XX82WEST12345698765432", "Gb82west12345698765432",
    "gb82west12345698765433", "be98ab3456789012", "de87c704004405320130bc",
    "AGB82WEST12345698765432", "GB82WEST123456987654321", "UTF16 and SHA256", "GB82  WEST 1234 5698 7654 32",
    # keys
    "AKIAIOSFODNN7EXAMPLE", "AKIA", "ghp_" + "x" * 36, "sk-learn-contrib-package-2021", "scikit-learn",
    "token = 'my_secret_value_number_22'", "api_key = os.environ['THE_API_KEY_NUMBER_12']",
    "token = self.token_2_string_Value_x", "secret = '0123456789012345678901234'", "key = 'f3A9dk20DKsl39dkWQ0z'",
    "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", "NextToken: 'eyJOZXh0VG9rZW4iOiBudWxsLC1'",
    "secret: 123e4567-e89b-12d3-a456-426614174000",
    "-----BEGIN RSA PRIVATE KEY-----\n(in Base64)\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN CERTIFICATE-----\n" + KEY36 * 3 + "\n-----END CERTIFICATE-----", "xoxo-hugs-and-kisses-2021",
    "test_utf8_in_a_function_with_a_very_long_name_2", "password = 'YOUR_PASSWORD_GOES_HERE_123'",
    "glpat-your-access-token-here", "hf_ModelForSequenceClassificationWithValues", "sk_live_YourSecretKeyHere",
    "hf_yourtokenyourtokenyourtokenyourtokens", "ASIAPACIFICECONOMICS", "ghp_PUTYOURPERSONALACCESSTOKENHEREPLEASEX",
    "dop_v1_" + "0" * 64, "dop_v1_" + HEX64[:40], "shpat_your_access_token_goes_here_0123", f"12345:AA{KEY36[:33]}",
    "hvs.getUtf8StringFromTheNumber2Now(x)", "hvs.a_name_of_something_long_2_x", f"EAAA{KEY36}{KEY36}{KEY36}",
    "MTIzNDU2Nzg5MDEyMzQ1Njc4", "MainClassOfTheProgram123.method.anotherLongMethodOfTheClass1",
    "123456789:AA" + "A" * 33,
    "x-sig=9a", "sig=inspect.signature(function)", "?sig=" + "x" * 43 + "%3D", "X-Amz-Signature=<hex>",
    "Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic authentication", "Basic YW5uYTpnZWhlaW0xMjM=",
]  # fmt: skip


@pytest.mark.parametrize("text", NEGATIVES)
@pytest.mark.parametrize("frame", ["{}", "so {} is it", "({})", '"{}"'])
def test_what_only_looks_private_stays(text: str, frame: str) -> None:
    assert find(frame.format(text), ALL) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("tel: 020 7946 0018.", "tel: [PHONE]."),
        ("Tel. 030 901820, Fax: 030/901821", "Tel. [PHONE], Fax: [PHONE]"),
        ("Téléphone : 01 42 68 53 00", "Téléphone : [PHONE]"),
        ("Tél. 01 42 68 53 00, portable : 06 12 34 56 78", "Tél. [PHONE], portable : [PHONE]"),
        ("Tel.-Nr. 030 901820; Tel.Nr.: 030/901820", "Tel.-Nr. [PHONE]; Tel.Nr.: [PHONE]"),
        ("Telefonnummer: 030 901820, Handynummer 0151 23456789", "Telefonnummer: [PHONE], Handynummer [PHONE]"),
        ("Die Rufnummer lautet 030 901820.", "Die Rufnummer lautet [PHONE]."),
        ("Tfno. 912 345 678", "Tfno. [PHONE]"),
        ("call me on 020 7946 0018, us at 020 7946 0018", "call me on [PHONE], us at 020 7946 0018"),
        ("My phone number is 020 7946 0018", "My phone number is [PHONE]"),
        ("☎ 030 901820 ☎\ufe0f 030 901820", "☎ [PHONE] ☎\ufe0f [PHONE]"),
        ("call me on 30901820, portable 30901820", "call me on 30901820, portable 30901820"),
        ("call us on 01/02/2024, a portable 0.12345678", "call us on 01/02/2024, a portable 0.12345678"),
        ("a number 030 901820, contact 030 901820", "a number 030 901820, contact 030 901820"),
        ("Tel. 01/42/68/53/00, phone: 202-455-0123", "Tel. [PHONE], phone: [PHONE]"),
        ("Tel. 030 901820 10:15, fax 030 901820:15", "Tel. [PHONE] 10:15, fax [PHONE]:15"),
        ("tel 01-42-68-53-00, call 2125551234 at 10:15", "tel [PHONE], call [PHONE] at 10:15"),
        ("hotel 030 901820", "hotel 030 901820"),
        ("+1 650-253-0000 22 times", "[PHONE] 22 times"),
        ("650-253-0000 and 650-253-0001", "[PHONE] and [PHONE]"),
        ("http://93.184.216.34:8080/x", "http://[IP]:8080/x"),
        ("[2606:2800:220:1::1946]:80", "[[IP]]:80"),
        ("from 2a00:1450::12: refused", "from [IP]: refused"),
        ("::ffff:93.184.216.34:80", "[IP]:80"),
        ("x::ffff:93.184.216.34", "x::ffff:[IP]"),
        ("me@mail.ru.Она", "[EMAIL].Она"),
        ("Почта: иван@почта.рф.", "Почта: [EMAIL]."),
        ('"api_key": "f3A9dk20DKsl39dkWQ0z"', '"api_key": "[KEY]"'),
        ("AWS_SECRET_ACCESS_KEY=wJa1rXUt/K7MD+NGbPx2fiCY/9EKEYabc12==", "AWS_SECRET_ACCESS_KEY=[KEY]"),
        ("Authorization: Bearer 9f8e7d6c5b4a39281706f5e4d3c2b1a0", "Authorization: Bearer [KEY]"),
        ("Authorization: Bearer " + "abcdef0123456789" * 3, "Authorization: Bearer [KEY]"),
        ("digest: " + "abcdef0123456789" * 3, "digest: " + "abcdef0123456789" * 3),
        ("Authorization: Bearer " + "0123456789" * 4, "Authorization: Bearer " + "0123456789" * 4),
        ("session_token: 9f8e7d6c5b4a39281706f5e4d3c2b1a0", "session_token: [KEY]"),
        ("Authorization: Basic YW5uYTpnZWhlaW0xMjM=", "Authorization: Basic [KEY]"),
        ("-H 'authorization: basic YWxhZGRpbjpvcGVuc2VzYW1l'", "-H 'authorization: basic [KEY]'"),
        (f"https://a.io/b?sv=1&sig={KEY36}%2B%2f12345%3D&se=2", "https://a.io/b?sv=1&sig=[KEY]&se=2"),
        (f"https://a.io/b?sig={KEY36}/123456= x", "https://a.io/b?sig=[KEY] x"),
        (f"https://s3.a.io/b?X-Amz-Signature={HEX64}&x", "https://s3.a.io/b?X-Amz-Signature=[KEY]&x"),
        (f"api.telegram.org/bot123456789:AA{KEY36[:33]}/getMe", "api.telegram.org/bot[KEY]/getMe"),
        ("https://u:p4ss@host.com/", "https://[KEY]@host.com/"),
        ("postgres://bob:s3cretPassw0rd@db.host.com/x", "postgres://[KEY]@db.host.com/x"),
        ("redis://:s3cr$t:1@localhost:6379 and", "redis://[KEY]@localhost:6379 and"),
        ("postgres://admin:S3cr,et(9x@db.corp.com/app", "postgres://[KEY]@db.corp.com/app"),
        ("amqp://svc:Tr0ub4dor;3xyz@mq.corp.com", "amqp://[KEY]@mq.corp.com"),
        ("redis://:p4(ss)w0rd99@redis.corp.com:6379", "redis://[KEY]@redis.corp.com:6379"),
        ("mongodb://u:qN7|zz9!@m.corp.com", "mongodb://[KEY]@m.corp.com"),
        ("postgres://admin:pä55wörtX@db.corp.com/app", "postgres://[KEY]@db.corp.com/app"),
        ("http://host:80,bob@corp.com", "http://host:80,[EMAIL]"),
        (
            "http://host:Joe\xa0joe@b.com http://host:Joe\u3000joe@b.com",
            "http://host:Joe\xa0[EMAIL] http://host:Joe\u3000[EMAIL]",
        ),
        ("mongodb+srv://al.b:p%40ss@{host}", "mongodb+srv://[KEY]@{host}"),
        ("https://user:password@host.com/", "https://user:password@host.com/"),
        ("amqp://guest:guest@h.com, http://u:$PASS@h.com", "amqp://guest:guest@h.com, http://u:$PASS@h.com"),
        (
            "http://bob:xxxx@host.com http://u:your-password@h.com",
            "http://bob:xxxx@host.com http://u:your-password@h.com",
        ),
        ("https://x.de/?email%3Danna.k%40gmx.de&b", "https://x.de/?email%3D[EMAIL]&b"),
        ("https://x.de/?phone=%2B4930901820&b=%2b4930901820", "https://x.de/?phone=[PHONE]&b=[PHONE]"),
        (
            "?x=%2B49309018201234567&y=2B4930901820&z%2B4930901820",
            "?x=%2B49309018201234567&y=2B4930901820&z%2B4930901820",
        ),
        (r'"mail\nbob.k@gmx.de"', r'"mail\n[EMAIL]"'),
        (r'"\tbob@gmx.de\r\nann@gmx.de \u00e4nne@gmx.de"', r'"\t[EMAIL]\r\n[EMAIL] \u00e4[EMAIL]"'),
        (
            r"CORP\bob@gmx.de \ngit@github.com \n-x@me.de \noexpand@names.map",
            r"CORP\[EMAIL] \ngit@github.com \n-[EMAIL] \noexpand@names.map",
        ),
        ("ssh://bob@host.com", "ssh://[EMAIL]"),
        ("https://al:a.b~c!$&*+=_-%2F@h.com/", "https://[KEY]@h.com/"),
        (
            '{"u":"https://a.io","e":"joe@b.com","f":"http://c.io"}',
            '{"u":"https://a.io","e":"[EMAIL]","f":"http://c.io"}',
        ),
        ("{'u':'https://joe.me','e':'joe@me.com'}", "{'u':'https://joe.me','e':'[EMAIL]'}"),
        ('"https://joe.me":{"m":"joe@me.com"}', '"https://joe.me":{"m":"[EMAIL]"}'),
        ("<https://joe.me>:joe@me.com", "<https://joe.me>:[EMAIL]"),
        ("https://a.org|joe|mail:joe@b.com", "https://a.org|joe|mail:[EMAIL]"),
        ("[Site](https://a.com),mail:joe@b.com", "[Site](https://a.com),mail:[EMAIL]"),
        ("w=http://a.com;c=Joe:joe@b.com;next", "w=http://a.com;c=Joe:[EMAIL];next"),
        ("http://foo.bar?x:joe@b.com", "http://foo.bar?x:[EMAIL]"),
        ("http://localhost:8080,joe@b.com", "http://localhost:8080,[EMAIL]"),
        ("看 https://a.org。邮箱:joe@b.com", "看 https://a.org。邮箱:[EMAIL]"),
        ("الكتابة إلى،joe@gmail.com", "الكتابة إلى،[EMAIL]"),
        ("https://medium.com/:a@b and //u:p4ss@x", "https://medium.com/:a@b and //u:p4ss@x"),
        (f"-----BEGIN PRIVATE KEY-----\n{KEY36}{KEY36}\n{KEY36}\n-----END PRIVATE KEY-----\nok", "[KEY]\nok"),
        (f"-----BEGIN EC PRIVATE KEY-----\n{KEY36}{KEY36}\n{KEY36}\n\nthe end", "[KEY]\n\nthe end"),
        ("IBAN GB82 WEST 1234 5698 7654 32 thanks", "IBAN [IBAN] thanks"),
        ("4111 1111 1111 1111 12/25", "[CARD] 12/25"),
        ("Card: 4111 1111 1111 1111 123", "Card: [CARD] 123"),
        ("John,4111111111111111,0127,123\nid,4111111111111111", "John,[CARD],0127,123\nid,[CARD]"),
        ("17,4111111111111111,4111 1111 1111 1111,5", "17,[CARD],[CARD],5"),
        ("My card is 4111 1111 1111 1111 12/27 cvv 123", "My card is [CARD] 12/27 cvv 123"),
        ("5500 0055 5555 5559 1 item", "[CARD] 1 item"),
        ("4111 1111 1111 1111 003, a card of 19 digits", "[CARD], a card of 19 digits"),
        ("O'Brien@firma.de's box", "[EMAIL]'s box"),
        ("'me@firma.de'", "'[EMAIL]'"),
        ("f'me@firma.de', 'O'Brien@firma.de'", "f'[EMAIL]', '[EMAIL]'"),
        ("x='a'+'me@firma.de'+b", "x='a'+'[EMAIL]'+b"),
        ("'me@firma.de is mine', '-me@firma.de'", "'[EMAIL] is mine', '-[EMAIL]'"),
        ("a@b.com,c@d.org;e@f.net", "[EMAIL],[EMAIL];[EMAIL]"),
    ],
)
def test_where_it_begins_and_ends(before: str, after: str) -> None:
    assert masked(before) == after


def test_top_level_domains_are_those_of_the_root_zone() -> None:
    zone = (Path(hypothesis.__file__).parent / "vendor" / "tlds-alpha-by-domain.txt").read_text().lower().split()
    assert (COMMON | GENERIC).issubset(zone)


def test_each_kind_has_its_verdict() -> None:
    text = f"a@b.com c@d.org 93.184.216.34 ghp_{KEY36}"
    result = pii(text, ALL)
    assert result.text == "[EMAIL] [EMAIL] [IP] [KEY]"
    assert [(result.rule, result.value), *result.also] == [("pii/key", 1), ("pii/email", 2), ("pii/ip", 1)]
    dropped = pii(text, PiiOptions(action="drop"))
    assert (dropped.text, dropped.rule, dropped.value) == (None, "pii/key", 1)
    assert pii("nothing here", PiiOptions(action="drop")).text == "nothing here"


def test_options() -> None:
    text = "a@b.com +1 650-253-0000 10.20.30.40 020 7946 0018"
    assert masked(text, kinds=["email"]) == "[EMAIL] +1 650-253-0000 10.20.30.40 020 7946 0018"
    assert masked(text, ip="all", kinds=["ip"]) == "a@b.com +1 650-253-0000 [IP] 020 7946 0018"
    assert masked("192.0.2.17 fe80::1 ::1 fd00::17 2001:db8::1", ip="all") == "192.0.2.17 [IP] [IP] [IP] 2001:db8::1"
    assert masked("https://bob:hunter22@mail.acme.org/x", kinds=["email"]) == "https://bob:[EMAIL]/x"
    assert masked("a@b.com c@b.com", allow=[r"a@.*"]) == "a@b.com [EMAIL]"
    assert masked("tel 020 7946 0018; 650-253-0000", phone_regions=["DE"]) == "tel 020 7946 0018; 650-253-0000"
    assert masked("650-253-0000", phone_regions=["CA"]) == "[PHONE]"


@pytest.mark.slow
def test_an_expression_without_end_is_stopped_counted_and_allows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilth.data.stages.pii._CLOCK", TimedOptions(timeout_seconds=0.05))
    bait = "a" * 50 + "@gmail.com"
    options = PiiOptions(allow=[r"(\w|\w\w|\.)+@(my|our)-company\.com"])
    found = pii(f"me.too@my-company.com {bait} you@my-company.com +4930901820", options)
    # What stands after it was not asked for; what stands before it stays, however often the text is looked at.
    assert found.text == "me.too@my-company.com [EMAIL] [EMAIL] [PHONE]"
    assert (found.rule, found.value, found.also) == ("pii/email", 2, (("pii/phone", 1), ("pii/timeout", 0.05)))
    assert pii(bait, PiiOptions(allow=options.allow, action="drop")).text is None


@pytest.mark.parametrize(
    ("options", "message", "remedy"),
    [
        ({"kinds": []}, "kinds", "leave the stage out"),
        ({"kinds": ["mail"]}, "kinds", "email"),
        ({"action": "hide"}, "action", "mask"),
        ({"allow": ["(a"]}, "'(a' is no regular expression", "mend it"),
        ({"phone_regions": ["uk"]}, "'uk' is no country", "US or DE"),
    ],
)
def test_wrong_options_say_what_and_how(options: dict[str, object], message: str, remedy: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(PiiOptions, options)
    assert message in caught.value.message and remedy in caught.value.remedy


def test_without_the_library_for_telephones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(RecipeError, match="phonenumbers") as caught:
        pii("call +49 30 901820", ALL)
    assert "pip install 'tilth[web]'" in caught.value.remedy
    assert masked("a@b.com +49 30 901820", kinds=["email"]) == "[EMAIL] +49 30 901820"


def luhn(digits: str) -> str:
    """The check digit as ISO/IEC 7812 tells it: from the right, every second digit doubled, the digits added up."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * 2 if place % 2 == 0 else int(digit)
        total += doubled // 10 + doubled % 10
    return str(-total % 10)


@st.composite
def cards(draw: st.DrawFn) -> str:
    head, length = draw(
        st.sampled_from(
            [("4", 16), ("4", 13), ("53", 16), ("2500", 16), ("37", 15), ("6011", 16), ("36", 14), ("3550", 16)]
        )
    )
    digits = head + "".join(draw(st.lists(st.sampled_from("0123456789"), min_size=length, max_size=length)))
    digits = digits[: length - 1]
    return digits + luhn(digits)


@given(cards(), st.sampled_from(["", " ", "-"]))
def test_every_card_is_found(card: str, separator: str) -> None:
    groups = [4, 6, 5] if len(card) == 15 else [4, 6, 4] if len(card) == 14 else [4, 4, 4, 4]
    shown = card
    if separator and len(card) != 13:
        starts = [sum(groups[:n]) for n in range(len(groups))]
        shown = separator.join(card[start : start + size] for start, size in zip(starts, groups, strict=True))
    assert masked(f"paid with {shown} today", kinds=["card"]) == "paid with [CARD] today"
    wrong = card[:-1] + str((int(card[-1]) + 1) % 10)
    assert is_card(card) and not is_card(wrong)


LENGTHS = {"DE": 22, "GB": 22, "FR": 27, "NO": 15, "MT": 31, "CH": 21, "PL": 28, "NL": 18}


@st.composite
def ibans(draw: st.DrawFn) -> str:
    country, length = draw(st.sampled_from(sorted(LENGTHS.items())))
    account = "".join(draw(st.lists(st.sampled_from("0123456789ABCXYZ"), min_size=length - 4, max_size=length - 4)))
    number = 0  # ISO 13616: letters are 10 to 35, country and 00 go to the end, the check digits make 98 less the rest
    for letter in account + country + "00":
        value = int(letter) if letter.isdigit() else ord(letter) - 55
        number = (number * (10 if value < 10 else 100) + value) % 97
    return f"{country}{98 - number:02d}{account}"


@given(ibans(), st.booleans())
def test_every_iban_is_found(iban: str, printed: bool) -> None:
    shown = " ".join(re.findall(".{1,4}", iban)) if printed else iban
    assert masked(f"to {shown}, please", kinds=["iban"]) == "to [IBAN], please"
    assert is_iban(iban)
    assert not is_iban(f"{iban[:2]}{int(iban[2:4]) + 1:02d}{iban[4:]}") and not is_iban(iban + "0")


@given(st.integers(11, 223), st.integers(0, 255), st.integers(0, 255), st.integers(1, 255))
def test_an_ipv4_address_is_masked_exactly_when_it_is_public(a: int, b: int, c: int, d: int) -> None:
    special = (
        a == 127 or (a == 172 and 16 <= b < 32) or (a == 100 and 64 <= b < 128) or (a, b) in {(169, 254), (192, 168)}
        or (a == 198 and b in (18, 19))
        or (a, b, c) in {(192, 0, 0), (192, 0, 2), (192, 88, 99), (198, 51, 100), (203, 0, 113)}
    )  # fmt: skip
    address = f"{a}.{b}.{c}.{d}"
    assert masked(f"from {address} on") == (f"from {address} on" if special else "from [IP] on")


PARTS = (
    [private for some in POSITIVES.values() for private in some] + NEGATIVES + ["[EMAIL]", "[KEY]", "=", '"', "+", "@"]
)
MIXED = st.lists(st.sampled_from(PARTS) | st.text(st.sampled_from("aA0.@+-:/ \n()=é漢"), max_size=6), max_size=12)


@given(MIXED, st.sampled_from(["", " ", ".", "@", "-", "\n"]))
@example(["a@b.com@c.org", "8.8.4.4@x.com"], "")
def test_masking_twice_is_masking_once(parts: list[str], joint: str) -> None:
    text = joint.join(parts)
    result = pii(text, PiiOptions(ip="all"))
    assert result.text is not None
    assert pii(result.text, PiiOptions(ip="all")) == (result.text, 0, "", (), {}, ())
    counted = sum(int(value) for _, value in [(result.rule, result.value), *result.also])
    added = sum(result.text.count(f"[{sort.upper()}]") - text.count(f"[{sort.upper()}]") for sort in SORTS)
    assert counted == added


@given(st.text())
def test_any_text_can_be_looked_at(text: str) -> None:
    found = find(text, ALL)
    assert all(0 <= one.start < one.end <= len(text) for one in found)


def test_neighbours_in_the_batch_change_nothing() -> None:
    texts = ["a@b.com", "", "650-253-", "0000", "clean", "\ud800 c@d.org"]
    batch = [Document(str(n), text, "s", "l") for n, text in enumerate(texts)]
    run = PII_STAGES["pii"].run
    assert run(batch, ALL) == [run([document], ALL)[0] for document in batch]


@pytest.mark.parametrize(
    "text",
    ["a" * 500_000, "1" * 300_000, "1 2 " * 100_000, "@" * 100_000, "a@b." * 50_000, ":" * 200_000, "a1" * 200_000,
     "token = " + "aB3" * 100_000, "-----BEGIN PRIVATE KEY-----" * 3_000, "1.22." * 60_000, "+1 " * 60_000,
     "AA00" * 50_000, "2001:" * 40_000, "a-" * 100_000 + "@" + "b-" * 100_000, "://a:b" * 60_000,
     "x://" + "a:" * 200_000, "abc@abc.abcde:" * 20_000,
     "ж" * 200_000 + "@", "a@" + "ж.xn--" * 60_000, "::ffff:1.22.33.4 " * 15_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    start = time.process_time()
    pii(text, ALL)
    assert time.process_time() - start < 3  # quadratic behaviour would take minutes


def test_the_clock_of_allow_counts_the_expressions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding what is private may take as long as it takes."""
    now = [0.0]

    def slow(text: str) -> View:
        now[0] += 60
        return look(text)

    monkeypatch.setattr("tilth.data.stages.pii.look", slow)
    monkeypatch.setattr("tilth.data.stages.pii.time.process_time", lambda: now[0])
    found = pii("write to jo@my-company.com please", PiiOptions(allow=(r".*@my-company\.com",)))
    assert found.text == "write to jo@my-company.com please" and not found.also
