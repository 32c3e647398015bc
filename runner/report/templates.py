"""Templates and chart specifications of shapwatch, and their replacements in the folder report.templates."""

from __future__ import annotations

import re
import traceback
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any

from runner.errors import ReportError
from runner.report.colors import TOKENS

if TYPE_CHECKING:
    from types import CodeType

    from jinja2 import BytecodeCache
    from jinja2.bccache import Bucket

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>&~$:])")


@dataclass(frozen=True)
class Templates:
    """Folders of templates; if several folders contain a template, the first of these folders is used."""

    folders: tuple[Path, ...]

    def find(self, name: str) -> Path:
        """Return the file of a template.

        Raises:
            ReportError: if no folder contains it.
        """
        for folder in self.folders:
            if (folder / name).is_file():
                return folder / name
        raise ReportError(name, f"not found in {' or '.join(map(str, self.folders))}")

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """Render a Jinja template; strings are escaped in HTML only.

        Raises:
            ReportError: if the template is invalid or uses an undefined name, with file and line.
        """
        from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(self.folders),
            autoescape=name.endswith(".html.j2"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            bytecode_cache=_compiled_templates(),
        )
        environment.filters |= {"markdown": markdown, "literal": literal, "csp_hash": csp_hash}
        environment.globals["tokens"] = TOKENS
        file = self.find(name)
        try:
            return environment.get_template(name).render(context)
        except TemplateSyntaxError as error:
            raise ReportError(f"{error.filename or file}:{error.lineno}", str(error.message)) from error
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise ReportError(self._location(error, file), str(error) or type(error).__name__) from error

    def _location(self, error: Exception, file: Path) -> str:
        """Return the file and line of the template that raised an error."""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if any(Path(frame.filename).is_relative_to(folder) for folder in self.folders):
                return f"{frame.filename}:{frame.lineno}"
        return str(file)


@cache
def _compiled_templates() -> BytecodeCache:
    """Return the cache of compiled templates: a process compiles each template once, unless its source changes."""
    from jinja2 import BytecodeCache

    class Memory(BytecodeCache):
        def __init__(self) -> None:
            self.code: dict[str, CodeType | None] = {}

        def load_bytecode(self, bucket: Bucket) -> None:
            bucket.code = self.code.get(bucket.checksum + bucket.key)

        def dump_bytecode(self, bucket: Bucket) -> None:
            self.code[bucket.checksum + bucket.key] = bucket.code

    return Memory()


def markdown(text: str) -> str:
    r"""Return a string on one line, with the special characters of Markdown escaped.

    >>> print(markdown("*a*\n<b> $x$"))
    \*a\* &lt;b&gt; \$x\$
    """
    escaped = SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return escaped.replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def literal(value: Any) -> str:
    """Return a string, or plain lists of strings, as Python source."""
    return repr(value) if isinstance(value, str) else pformat(value, width=110, sort_dicts=False)


def csp_hash(script: str) -> str:
    """Return the source of an inline script for a Content-Security-Policy."""
    return f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"
