"""What no log may say: addresses that are secrets. Django writes the path of every request that fails."""

import logging
import re

SECRET_PATH = re.compile(r"(/(?:calendar|password)/)[^\s'\"]+")


class WithoutSecrets(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if SECRET_PATH.search(text):
            record.msg, record.args = SECRET_PATH.sub(r"\1…", text), ()
        return True
