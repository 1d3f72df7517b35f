"""Texts that programs have stumbled over, one a line of its own kind; each is somebody's name in the corpus."""

# Names of whoever has them; a formula is text as well.
PLAIN = (
    "undefined", "null", "NULL", "None", "nil", "NaN", "Infinity", "-Infinity", "true", "FALSE", "N/A", "0", "00", "-0",
    "1e309", "0x10", "1/0", "1,000,000.00", "0.1 + 0.2", "007", "٠١٢٣", "１２３", "½", "∞", "Null Nullová", "True Trueová",
    "CON", "PRN", "AUX", "COM1", "LPT1", "hasOwnProperty", "__proto__", "constructor", "__class__",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "';alert(1)//",
    "javascript:alert(1)", "<b>tučně</b>", "&lt;b&gt;", "&amp;amp;", "&#0;", "&nbsp;", "<!-- -->", "<![CDATA[x]]>",
    "<!DOCTYPE html>", "<!ENTITY a \"b\">", "<?xml version=\"1.0\"?>", "{{ 7*7 }}", "{% debug %}", "${7*7}", "#{7*7}",
    "<%= 7*7 %>", "%s%s%s%n", "%d", "%%", "{0}", "{}", "{name}", "%(name)s", "$HOME", "`id`", "$(id)", "; ls", "| cat",
    "&& true", "../../etc/passwd", "..\\..\\windows", "C:\\CON\\CON", "file:///etc/passwd", "http://a/%%30%30",
    "' OR '1'='1", "1; DROP TABLE crm_client", "\" OR \"\"=\"", "admin'--", "') OR ('a'='a", "\\", "\\\\", "\\'", "\\n",
    "\\x00", "\\u0000", "'", "''", "\"", "\"\"", "\"a\"", "`", "´", "‘’", "“”", "„Jan“", "«Jan»", "´`'", "-", "--", "—",
    ";", ",", "|", "a;b,c|d", "Jan; Eva", "#", "#1", "@", "!", "?", "*", "%", "_", "a_b%c", "()", "[]", "~", "^", "&",
    "Žluťoučký kůň", "ŘEŽEŇ ĎÁBELSKÝ", "Ďábel", "D\u030ca\u0301bel", "Straße", "ﬁala", "İstanbul", "ıI", "ǅ", "ŉ", "\u03a9", "\u2126",
    "\u00c5se", "A\u030ase", "Œuvre", "Ærø", "Þór", "Łódź", "Ñandú", "Čapek-Čech", "O’Brien", "d'Artagnan", "Jan  Dvojitý",
    "Ing. Jiří Šťastný, Ph.D.", "NOVÁK Jan", "Jan Novák ml.", "Юрий", "Ελένη", "محمد", "שלום", "中文名字", "田中さん", "김철수",
    "ไทย", "हिन्दी", "தமிழ்", "ქართული", "አማርኛ", "ᚠᛇᚻ", "𐌼𐌰𐌲", "𝕁𝕒𝕟", "𝓙𝓪𝓷", "ⓙⓐⓝ", "ᴊᴀɴ", "ʇɐɐl",
    "😀", "👩‍👩‍👧‍👦", "👍🏿", "🇨🇿", "1️⃣", "❤️", "Jan 😀 Novák", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "Z͑ͫ̓ͪa̴̵̜ḷ̵g͙o̸", "ﷺ", "﷽", "¯\\_(ツ)_/¯", "( ͡° ͜ʖ ͡°)", "a" + "\u0301" * 60,
    "\u202eReversed", "Jan\u202eNovák", "\u2067Jan\u2069", "\u200fJan", "Jan\u200bNovák", "Jan\u200dNovák", "Jan\u00adNovák",
    "Jan\u00a0Novák", "Jan\u202fNovák", "Jan\u2028Novák", "Jan\u2029Novák", "Jan\u0085Novák", "\u3000Jan\u3000", "Jan\ufeff", "Jan\ufffdNovák", "\ufff9Jan\ufffb",
    "\U000e0041Jan", "\ue000Jan", "Jan\U0010ffff", "Jan\ufdd0", "=1+1", "=HYPERLINK(\"http://a\")", "+420777", "-1", "@SUM(1)", "＝1+1", "＋1", "'=1", "''=1",
    "=cmd|' /C calc'!A0", "A" * 200, "Jan " * 50, "\N{LATIN SMALL LETTER A WITH RING ABOVE}" * 200,
)  # fmt: skip
# What no row may bring in: the cell is refused, with words.
REFUSED = (
    "A" * 201, "Jan\x01Novák", "\x07", "Jan\x1b[31mNovák", "Jan\x7f\x08", "#REF!", "#N/A", "#HODNOTA!", "gAAAAABmVx5C" + "a" * 120,
    "\ufeffgAAAAABmVx5C" + "a" * 120,
)  # fmt: skip
# What is nothing at all to look at counts as an empty cell.
EMPTY = (
    "",
    " ",
    "\u00a0",
    "\u200b",
    "\ufeff",
    "\u2060",
    "\u200e\u200f",
    "\u00ad",
    "\u3000",
    " \u200b \u200b ",
    "\u200b" * 90_000,
)
